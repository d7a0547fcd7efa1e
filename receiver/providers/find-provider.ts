// The providers by name: which variables they need, where their API is, how one is made.
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { didYouMean } from '../yaml-validate.ts';
import { type ApiContext, parseEndpoint } from './api.ts';
import type { Environment } from './credentials.ts';
import { createDigitalOcean } from './digitalocean.ts';
import { createEc2 } from './ec2.ts';
import { createHetzner } from './hetzner.ts';
import { createLinode } from './linode.ts';
import { PROVIDER_NAMES, type Provider, type ProviderName } from './provider.ts';
import { createVultr } from './vultr.ts';

export interface ProviderSettings {
  env: Environment;
  /** From the command line or the configuration; EC2 is asked region by region. */
  location: string | null;
}

interface Entry {
  /** What has to be in the environment. */
  variables: readonly string[];
  create(settings: ProviderSettings, context: ApiContext): Provider;
}

type Maker = (env: Environment, endpoint: string, context: ApiContext) => Provider;

/** @param variable the one by which the provider's official tools are pointed elsewhere */
function entry(token: string, variable: string, standard: string, make: Maker): Entry {
  return {
    variables: [token],
    create: ({ env }, context) => make(env, readEndpoint(env, [variable]) ?? standard, context),
  };
}

const ENTRIES: Readonly<Record<ProviderName, Entry>> = {
  // @see https://github.com/hetznercloud/cli/blob/main/docs/reference/manual/hcloud_config.md
  hetzner: entry('HCLOUD_TOKEN', 'HCLOUD_ENDPOINT', 'https://api.hetzner.cloud/v1', createHetzner),
  // @see https://docs.digitalocean.com/reference/terraform/reference/
  digitalocean: entry('DIGITALOCEAN_TOKEN', 'DIGITALOCEAN_API_URL', 'https://api.digitalocean.com', createDigitalOcean),
  // @see https://github.com/linode/linodego#environment-variables
  linode: entry('LINODE_TOKEN', 'LINODE_URL', 'https://api.linode.com', createLinode),
  // @see https://docs.ansible.com/ansible/latest/collections/vultr/cloud/instance_module.html
  vultr: entry('VULTR_API_KEY', 'VULTR_API_ENDPOINT', 'https://api.vultr.com/v2', createVultr),
  // @see https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
  ec2: {
    variables: ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'],
    create: ({ env, location }, context) => {
      const endpoints = {
        ec2: readEndpoint(env, ['AWS_ENDPOINT_URL_EC2', 'AWS_ENDPOINT_URL']),
        pricing: readEndpoint(env, ['AWS_ENDPOINT_URL_PRICING', 'AWS_ENDPOINT_URL']),
      };
      return createEc2(env, location, endpoints, context);
    },
  },
};

/** @throws KraftwerkError `provider.unknown`, `provider.token`, `provider.endpoint`, `provider.place` */
export function createProvider(name: string | null, settings: ProviderSettings, context: ApiContext): Provider {
  const known: readonly string[] = PROVIDER_NAMES;
  if (name !== null && known.includes(name)) return ENTRIES[name as ProviderName].create(settings, context);
  const message =
    name === null
      ? 'which provider? Name one with --provider, or provider: in the configuration'
      : `no provider ${JSON.stringify(name.slice(0, 60))}${didYouMean(name, known)}`;
  throw new KraftwerkError('provider.unknown', message, {
    lines: PROVIDER_NAMES.map((one) => `${one} (${ENTRIES[one].variables.join(', ')})`),
    hint: 'what stands in brackets has to be in the environment',
    exit: 'usage',
  });
}

function readEndpoint(env: Environment, variables: readonly string[]): string | null {
  const variable = variables.find((name) => (env[name]?.trim() ?? '') !== '');
  return variable === undefined ? null : parseEndpoint(env[variable]?.trim() ?? '', variable);
}
