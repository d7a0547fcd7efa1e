// EC2 lets nothing in by itself: one security group for all nodes, with SSH, HTTP and HTTPS open.
import { z } from 'zod';
import { EC2_TITLE, type Ec2Api, itemsOf } from './ec2-api.ts';
import { LABEL, ProviderError } from './provider.ts';

const PORTS = ['22', '80', '443'];

const groups = z.object({
  securityGroupInfo: itemsOf(
    z.object({
      groupId: z.string(),
      ipPermissions: itemsOf(z.object({ ipProtocol: z.string(), fromPort: z.string().optional() })),
    }),
  ),
});

/** Ports that an admin has opened to fewer addresses stay so. @returns the group's id in the default VPC */
export async function ensureSecurityGroup(api: Ec2Api): Promise<string> {
  const vpc = await findDefaultVpc(api);
  const find = async () => {
    const params = {
      'Filter.1.Name': 'group-name',
      'Filter.1.Value.1': LABEL,
      'Filter.2.Name': 'vpc-id',
      'Filter.2.Value.1': vpc,
    };
    return (await api.call('DescribeSecurityGroups', params, groups)).securityGroupInfo[0];
  };
  const group = (await find()) ?? (await createGroup(api, vpc, find));
  const isOpen = (port: string): boolean =>
    group.ipPermissions.some(({ ipProtocol, fromPort }) => ipProtocol === '-1' || fromPort === port);
  for (const port of PORTS.filter((one) => !isOpen(one))) {
    const params = {
      GroupId: group.groupId,
      'IpPermissions.1.IpProtocol': 'tcp',
      'IpPermissions.1.FromPort': port,
      'IpPermissions.1.ToPort': port,
      'IpPermissions.1.IpRanges.1.CidrIp': '0.0.0.0/0',
      'IpPermissions.1.Ipv6Ranges.1.CidrIpv6': '::/0',
    };
    await ignoring('InvalidPermission.Duplicate', api.call('AuthorizeSecurityGroupIngress', params, z.object({})));
  }
  return group.groupId;
}

type Group = z.output<typeof groups>['securityGroupInfo'][number];

async function createGroup(api: Ec2Api, vpc: string, find: () => Promise<Group | undefined>): Promise<Group> {
  const params = { GroupName: LABEL, GroupDescription: 'kraftwerk nodes: SSH, HTTP, HTTPS', VpcId: vpc };
  const created = await ignoring(
    'InvalidGroup.Duplicate',
    api.call('CreateSecurityGroup', params, z.object({ groupId: z.string() })),
  );
  const found = created === null ? await find() : { groupId: created.groupId, ipPermissions: [] };
  if (found === undefined) throw new ProviderError('provider.answer', `${EC2_TITLE}: no security group ${LABEL}`);
  return found;
}

async function findDefaultVpc(api: Ec2Api): Promise<string> {
  const schema = z.object({ vpcSet: itemsOf(z.object({ vpcId: z.string() })) });
  const params = { 'Filter.1.Name': 'is-default', 'Filter.1.Value.1': 'true' };
  const [vpc] = (await api.call('DescribeVpcs', params, schema)).vpcSet;
  if (vpc !== undefined) return vpc.vpcId;
  throw new ProviderError('provider.refused', `${EC2_TITLE}: ${api.region} has no default VPC`, {
    hint: `aws ec2 create-default-vpc --region ${api.region}`,
  });
}

async function ignoring<T>(code: string, work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof ProviderError && error.providerCode === code) return null;
    throw error;
  }
}
