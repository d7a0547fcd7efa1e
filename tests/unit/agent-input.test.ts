import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { openInput } from '../../node-agent/input.ts';

async function readAll(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

it('lines and the bytes between them, however they are cut', async () => {
  for (const size of [1, 3, 100]) {
    const stream = new PassThrough();
    const input = openInput(stream);
    const sent = 'first\nABC\nDsecond\n';
    for (let at = 0; at < sent.length; at += size) stream.write(sent.slice(at, at + size));
    expect(await input.readLine()).toBe('first');
    expect(await readAll(input.readBytes(5))).toBe('ABC\nD');
    expect(await input.readLine()).toBe('second');
    expect(await readAll(input.readBytes(0))).toBe('');
    stream.end();
    expect(await input.readLine()).toBe(null);
    expect(input.gone.aborted).toBe(true);
  }
});

it('bytes that nobody read are not taken for the next request', async () => {
  const stream = new PassThrough();
  const input = openInput(stream);
  input.readBytes(1_000_000);
  stream.write(Buffer.alloc(1_000_000, '{'));
  stream.write('next\n');
  expect(await input.readLine()).toBe('next');
});

it('an input that ends early ends the bytes early; half a line is an error; a line without end, too', async () => {
  const cut = new PassThrough();
  const input = openInput(cut);
  cut.end('abc');
  await once(cut, 'end');
  expect(await readAll(input.readBytes(10))).toBe('abc');
  const half = new PassThrough();
  half.end('{"op"');
  await expect(openInput(half).readLine()).rejects.toMatchObject({ code: 'protocol.invalid' });
  const endless = new PassThrough();
  endless.write(Buffer.alloc(5 * 1024 * 1024, 'x'));
  await expect(openInput(endless).readLine()).rejects.toThrow('longer than');
});

it('a slow reader of the bytes holds the sender back', async () => {
  const stream = new PassThrough();
  const input = openInput(stream);
  const bytes = input.readBytes(10_000_000);
  let sent = 0;
  while (sent < 10_000_000 && stream.write(Buffer.alloc(100_000))) sent += 100_000;
  await new Promise(setImmediate);
  expect(stream.isPaused()).toBe(true);
  stream.write(Buffer.alloc(10_000_000 - sent - 100_000));
  expect((await readAll(bytes)).length).toBe(10_000_000);
});
