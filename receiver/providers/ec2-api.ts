/**
 * How EC2 and the price list are asked: signed requests, XML or JSON answers, Amazon's errors in words.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/making-api-requests.html
 */
import { z } from 'zod';
import { parseAnswer, parseJson, unknownAnswer } from './answers.ts';
import { type Api, type ApiContext, type ApiRequest, createApi, type ProviderWords } from './api.ts';
import { type Environment, exportHint, readToken } from './credentials.ts';
import { type AwsCredentials, encodeRfc3986, signRequest } from './sigv4.ts';
import { parseXml, type XmlValue } from './xml.ts';

export const EC2_TITLE = 'Amazon EC2';
const VERSION = '2016-11-15';
const KEY_HINT = [
  'an access key: https://console.aws.amazon.com/iam, the user, Security credentials',
  `export AWS_ACCESS_KEY_ID=…; ${exportHint('AWS_SECRET_ACCESS_KEY')}`,
];
/** The price list is kept in few regions only. */
const PRICE_REGION = 'us-east-1';

/** `AWS_ENDPOINT_URL` and the like, for tests and for clouds that speak the same; null: Amazon's own. */
export interface Ec2Endpoints {
  ec2: string | null;
  pricing: string | null;
}

export type Params = Readonly<Record<string, string>>;

export interface Ec2Api {
  region: string;
  /** @param isIdempotent whether a lost answer may be tried again @throws ProviderError */
  call<T extends z.ZodType>(action: string, params: Params, schema: T, isIdempotent?: boolean): Promise<z.output<T>>;
  /** @see https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_pricing_GetProducts.html */
  price<T extends z.ZodType>(body: unknown, schema: T): Promise<z.output<T>>;
}

/** @throws ProviderError `provider.token` */
export function createEc2Api(env: Environment, region: string, endpoints: Ec2Endpoints, context: ApiContext): Ec2Api {
  const session = env.AWS_SESSION_TOKEN?.trim();
  const credentials: AwsCredentials = {
    accessKeyId: readToken(env, 'AWS_ACCESS_KEY_ID', EC2_TITLE, KEY_HINT),
    secretAccessKey: readToken(env, 'AWS_SECRET_ACCESS_KEY', EC2_TITLE, KEY_HINT),
    sessionToken: session ? readToken(env, 'AWS_SESSION_TOKEN', EC2_TITLE, KEY_HINT) : null,
  };
  const suffix = region.startsWith('cn-') ? 'amazonaws.com.cn' : 'amazonaws.com';
  const ec2 = new URL(`${endpoints.ec2 ?? `https://ec2.${region}.${suffix}`}/`);
  const prices = new URL(`${endpoints.pricing ?? `https://api.pricing.${PRICE_REGION}.amazonaws.com`}/`);

  const create = (service: string, signedRegion: string): Api =>
    createApi(
      {
        title: EC2_TITLE,
        authorize: (request) => sign(request, service, signedRegion, credentials, context.clock.now()),
        secrets: [credentials.secretAccessKey, credentials.sessionToken ?? '', credentials.accessKeyId],
        tokenHint: KEY_HINT,
        readError,
      },
      context,
    );
  const ec2Api = create('ec2', region);
  const priceApi = create('pricing', PRICE_REGION);

  return {
    region,
    async call(action, params, schema, isIdempotent = true) {
      const fields = Object.entries({ Action: action, Version: VERSION, ...params });
      const text = await ec2Api.send({
        method: 'POST',
        url: ec2,
        label: action,
        body: fields.map(([name, value]) => `${encodeRfc3986(name)}=${encodeRfc3986(value)}`).join('&'),
        headers: { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8', accept: 'application/xml' },
        isIdempotent,
      });
      const where = `${EC2_TITLE}: ${action}`;
      const { root, value } = parseXml(text, where);
      if (root !== `${action}Response`) throw unknownAnswer(where, `<${root}>`);
      return parseAnswer(schema, value, where);
    },
    price: (body, schema) =>
      priceApi.json(
        {
          method: 'POST',
          url: prices,
          label: 'GetProducts',
          body,
          headers: {
            'content-type': 'application/x-amz-json-1.1',
            'x-amz-target': 'AWSPriceListService.GetProducts',
          },
          isIdempotent: true,
        },
        schema,
      ),
  };
}

function sign(
  { method, url, headers, body }: ApiRequest,
  service: string,
  region: string,
  credentials: AwsCredentials,
  nowMs: number,
): Record<string, string> {
  const signed = Object.fromEntries(
    Object.entries(headers).filter(([name]) => name === 'content-type' || name.startsWith('x-amz-')),
  );
  return signRequest({ method, url, headers: signed, body: body ?? '', region, service, credentials, nowMs });
}

/** `{item: …}` with none, one or several elements. */
export function itemsOf<T extends z.ZodType>(item: T) {
  const some = z.object({ item: z.union([z.array(item), item.transform((one) => [one])]) });
  return z.union([
    z
      .string()
      .regex(/^\s*$/)
      .transform((): z.output<T>[] => []),
    some.transform((set) => set.item as z.output<T>[]),
  ]);
}

export const number = z
  .string()
  .regex(/^[0-9]+$/, 'expected a number')
  .transform(Number);

const BUSY = new Set(['RequestLimitExceeded', 'Throttling', 'ThrottlingException', 'TooManyRequestsException']);
const TOKEN = new Set([
  ...['AuthFailure', 'InvalidClientTokenId', 'SignatureDoesNotMatch', 'UnrecognizedClientException'],
  ...['InvalidSignatureException', 'ExpiredTokenException', 'RequestExpired', 'MissingAuthenticationToken'],
]);
const FORBIDDEN = new Set(['UnauthorizedOperation', 'AccessDenied', 'AccessDeniedException', 'OptInRequired']);
/** Answered with 5xx, though nothing is broken and nothing was made. */
const REFUSED = new Set(['InsufficientInstanceCapacity', 'InsufficientAddressCapacity', 'InsufficientCapacity']);

const xmlError = z.object({ Errors: z.object({ Error: z.object({ Code: z.string(), Message: z.string() }) }) });
const jsonError = z.object({ __type: z.string(), message: z.string().optional(), Message: z.string().optional() });

/** @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html */
function readError(body: string): ProviderWords {
  const found = body.trimStart().startsWith('<') ? readXmlError(body) : readJsonError(body);
  if (found === null) return { code: null, message: null };
  const { code, message } = found;
  const words = { code, message: `${code}: ${message}` };
  if (BUSY.has(code)) return { ...words, kind: 'busy' };
  if (TOKEN.has(code)) return { ...words, kind: 'token' };
  if (FORBIDDEN.has(code)) return { ...words, kind: 'forbidden' };
  if (REFUSED.has(code)) return { ...words, kind: 'refused' };
  return code.endsWith('.NotFound') ? { ...words, kind: 'missing' } : words;
}

function readXmlError(body: string): { code: string; message: string } | null {
  let value: XmlValue;
  try {
    ({ value } = parseXml(body, EC2_TITLE));
  } catch {
    return null;
  }
  const parsed = xmlError.safeParse(value);
  return parsed.success ? { code: parsed.data.Errors.Error.Code, message: parsed.data.Errors.Error.Message } : null;
}

function readJsonError(body: string): { code: string; message: string } | null {
  const parsed = jsonError.safeParse(parseJson(body));
  if (!parsed.success) return null;
  const { __type: type, message, Message } = parsed.data;
  return { code: type.split('#').at(-1) ?? type, message: message ?? Message ?? '' };
}
