// AWS Signature Version 4: the Authorization header of one request. Pure.
import { createHash, createHmac } from 'node:crypto';

export interface AwsCredentials {
  accessKeyId: string;
  secretAccessKey: string;
  /** Of temporary credentials; null: they are not. */
  sessionToken: string | null;
}

export interface SignedRequest {
  method: string;
  url: URL;
  /** All of these are signed, together with host and the date. */
  headers: Readonly<Record<string, string>>;
  body: string;
  /** `eu-central-1` */
  region: string;
  /** `ec2` */
  service: string;
  credentials: AwsCredentials;
  /** Milliseconds since 1970. */
  nowMs: number;
}

/**
 * The headers to add to the request.
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
 */
export function signRequest(request: SignedRequest): Record<string, string> {
  const { credentials, region, service } = request;
  const time = `${new Date(request.nowMs).toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`;
  const date = time.slice(0, 8);
  const added: Record<string, string> = {
    'x-amz-date': time,
    ...(credentials.sessionToken !== null && { 'x-amz-security-token': credentials.sessionToken }),
  };
  const canonical = canonicalRequest(request, { ...request.headers, host: request.url.host, ...added });
  const scope = `${date}/${region}/${service}/aws4_request`;
  const toSign = ['AWS4-HMAC-SHA256', time, scope, sha256(canonical.text)].join('\n');
  const key = [date, region, service, 'aws4_request'].reduce<string | Buffer>(
    (secret, part) => createHmac('sha256', secret).update(part).digest(),
    `AWS4${credentials.secretAccessKey}`,
  );
  const signature = createHmac('sha256', key).update(toSign).digest('hex');
  return {
    ...added,
    authorization:
      `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope}, ` +
      `SignedHeaders=${canonical.signedHeaders}, Signature=${signature}`,
  };
}

function canonicalRequest(
  { method, url, body }: SignedRequest,
  headers: Readonly<Record<string, string>>,
): { text: string; signedHeaders: string } {
  const lines = Object.entries(headers)
    .map(([name, value]) => [name.toLowerCase(), value.trim().replace(/ +/g, ' ')] as const)
    .sort(([a], [b]) => compare(a, b));
  const query = [...url.searchParams]
    .map(([name, value]) => [encodeRfc3986(name), encodeRfc3986(value)] as const)
    .sort(([a, one], [b, other]) => compare(a, b) || compare(one, other))
    .map(([name, value]) => `${name}=${value}`)
    .join('&');
  const signedHeaders = lines.map(([name]) => name).join(';');
  const text = [
    method,
    // Always `/` here; a path with escapes would have to be encoded a second time.
    url.pathname,
    query,
    ...lines.map(([name, value]) => `${name}:${value}`),
    '',
    signedHeaders,
    sha256(body),
  ].join('\n');
  return { text, signedHeaders };
}

/** All but `A-Z a-z 0-9 - . _ ~`. */
export function encodeRfc3986(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

function compare(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
