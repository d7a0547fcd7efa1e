// What an instance type costs per hour in a region, from Amazon's price list.
import { z } from 'zod';
import { collectPages, parseJson } from './answers.ts';
import type { Ec2Api } from './ec2-api.ts';
import type { Price } from './provider.ts';
import { ProviderError } from './provider.ts';

const HOURS_A_MONTH = 730;

const answer = z.object({ PriceList: z.array(z.string()), NextToken: z.string().optional() });
const product = z.object({
  product: z.object({ attributes: z.object({ instanceType: z.string() }) }),
  terms: z.object({
    OnDemand: z
      .record(
        z.string(),
        z.object({
          priceDimensions: z.record(
            z.string(),
            z.object({ unit: z.string(), pricePerUnit: z.record(z.string(), z.string()) }),
          ),
        }),
      )
      .optional(),
  }),
});

/**
 * Linux, on demand, not dedicated. Empty when this key may not see prices, or the region's are kept elsewhere.
 * @param instanceType null: of all
 */
export async function readEc2Prices(api: Ec2Api, instanceType: string | null): Promise<Map<string, Price>> {
  const filters = {
    regionCode: api.region,
    operatingSystem: 'Linux',
    preInstalledSw: 'NA',
    tenancy: 'Shared',
    capacitystatus: 'Used',
    ...(instanceType !== null && { instanceType }),
  };
  const request = {
    ServiceCode: 'AmazonEC2',
    FormatVersion: 'aws_v1',
    MaxResults: 100,
    Filters: Object.entries(filters).map(([Field, Value]) => ({ Type: 'TERM_MATCH', Field, Value })),
  };
  try {
    const items = await collectPages<string, string>('', async (token) => {
      const page = await api.price({ ...request, ...(token !== '' && { NextToken: token }) }, answer);
      return { items: page.PriceList, next: page.NextToken || null };
    });
    return new Map(items.flatMap(readProduct));
  } catch (error) {
    // What cannot be seen is shown as not known, and the order is still confirmed.
    if (error instanceof ProviderError && error.code === 'provider.forbidden') return new Map();
    throw error;
  }
}

function readProduct(text: string): [string, Price][] {
  const parsed = product.safeParse(parseJson(text));
  if (!parsed.success) return [];
  const dimensions = Object.values(parsed.data.terms.OnDemand ?? {}).flatMap((term) =>
    Object.values(term.priceDimensions),
  );
  const [entry] = dimensions.filter(({ unit }) => unit === 'Hrs').flatMap((one) => Object.entries(one.pricePerUnit));
  const hourly = Number(entry?.[1]);
  if (entry === undefined || !(hourly > 0)) return [];
  const { instanceType } = parsed.data.product.attributes;
  return [[instanceType, { hourly, monthly: hourly * HOURS_A_MONTH, currency: entry[0] }]];
}
