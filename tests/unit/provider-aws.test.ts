// What EC2 alone needs: signatures against Amazon's published vectors, and its XML.
import { expect, test } from 'vitest';
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { signRequest } from '../../receiver/providers/sigv4.ts';
import { parseXml } from '../../receiver/providers/xml.ts';

/**
 * Of Amazon's own test suite: the key, the region, the service and the moment are the same in each of its cases.
 * @see https://github.com/awslabs/aws-c-auth/tree/main/tests/aws-signing-test-suite/v4
 */
const SUITE = {
  credentials: {
    accessKeyId: 'AKIDEXAMPLE',
    secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
    sessionToken: null as string | null,
  },
  region: 'us-east-1',
  service: 'service',
  nowMs: Date.UTC(2015, 7, 30, 12, 36, 0),
};
const FORM = 'application/x-www-form-urlencoded';

interface Vector {
  method?: string;
  query?: string;
  headers?: Record<string, string>;
  body?: string;
  sessionToken?: string;
  signedHeaders: string;
  signature: string;
}

test.each<[string, Vector]>([
  [
    'get-vanilla',
    {
      signedHeaders: 'host;x-amz-date',
      signature: '5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31',
    },
  ],
  [
    'get-vanilla-query-order-key-case',
    {
      query: '?Param2=value2&Param1=value1',
      signedHeaders: 'host;x-amz-date',
      signature: 'b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500',
    },
  ],
  [
    'get-vanilla-query-unreserved',
    {
      query:
        '?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz',
      signedHeaders: 'host;x-amz-date',
      signature: '9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197',
    },
  ],
  [
    'get-header-value-trim',
    {
      headers: { 'My-Header1': ' value1', 'My-Header2': ' "a   b   c" ' },
      signedHeaders: 'host;my-header1;my-header2;x-amz-date',
      signature: 'acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736',
    },
  ],
  [
    'post-vanilla',
    {
      method: 'POST',
      signedHeaders: 'host;x-amz-date',
      signature: '5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b',
    },
  ],
  [
    'post-header-key-sort',
    {
      method: 'POST',
      headers: { 'My-Header1': 'value1' },
      signedHeaders: 'host;my-header1;x-amz-date',
      signature: 'c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c',
    },
  ],
  [
    'post-sts-header-before',
    {
      method: 'POST',
      sessionToken:
        'AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==',
      signedHeaders: 'host;x-amz-date;x-amz-security-token',
      signature: '85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead',
    },
  ],
  [
    'post-x-www-form-urlencoded',
    {
      method: 'POST',
      headers: { 'Content-Type': FORM },
      body: 'Param1=value1',
      signedHeaders: 'content-type;host;x-amz-date',
      signature: 'ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a',
    },
  ],
  [
    'post-x-www-form-urlencoded-parameters',
    {
      method: 'POST',
      headers: { 'Content-Type': `${FORM}; charset=utf8` },
      body: 'Param1=value1',
      signedHeaders: 'content-type;host;x-amz-date',
      signature: '1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe',
    },
  ],
])('Amazon signs %s the same way', (_, vector) => {
  const { method = 'GET', query = '', headers = {}, body = '', sessionToken = null, signedHeaders, signature } = vector;
  const url = new URL(`https://example.amazonaws.com/${query}`);
  const credentials = { ...SUITE.credentials, sessionToken };
  expect(signRequest({ ...SUITE, credentials, method, url, headers, body })).toEqual({
    authorization: `AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=${signedHeaders}, Signature=${signature}`,
    'x-amz-date': '20150830T123600Z',
    ...(sessionToken !== null && { 'x-amz-security-token': sessionToken }),
  });
});

test('the worked example of the documentation: ListUsers of IAM', () => {
  const signed = signRequest({
    ...SUITE,
    service: 'iam',
    method: 'GET',
    url: new URL('https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08'),
    headers: { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' },
    body: '',
  });
  expect(signed.authorization).toContain('Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7');
});

test.each<[string, string, unknown]>([
  ['nothing', '<a/>', { root: 'a', value: '' }],
  ['text, with entities', '<a>x &lt;&amp;&#65;&#x42; y</a>', { root: 'a', value: 'x <&AB y' }],
  [
    'elements, alone and repeated, and space between them',
    '<?xml version="1.0" encoding="UTF-8"?>\n<r xmlns="http://x/">\n  <one>1</one>\n  <set><item>a</item><item/></set>\n</r>\n',
    { root: 'r', value: { one: '1', set: { item: ['a', ''] } } },
  ],
])('XML: %s', (_, text, expected) => {
  expect(parseXml(text, 'here')).toEqual(expected);
});

test.each([
  ['', 'XML that is cut off'],
  ['<html><p>sorry</html>', '</html> without its beginning'],
  ['<a><b>', 'XML that is cut off'],
  ['<a/><b/>', 'XML that is cut off'],
  ['sorry', 'expected XML'],
  ['<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', 'expected XML'],
  ['<a>&x;</a>', 'an unknown entity'],
  ['<a>&#9999999;</a>', 'a bad character'],
  ['<a>'.repeat(70), 'elements too deep'],
])('XML that nobody should send: %j', (text, reason) => {
  const parse = () => parseXml(text, 'here');
  expect(parse).toThrow(KraftwerkError);
  expect(parse).toThrow(`here: an answer that kraftwerk does not understand: ${reason}`);
});
