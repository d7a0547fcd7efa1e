// kraftwerk receiver: runs the receiver in the foreground until it is told to end.
import { EXIT_CODES } from '../../node-agent/protocol.ts';
import { readSurroundings } from '../config.ts';
import { createLogger, startReceiver } from '../start-receiver.ts';
import { loadConfig } from './find-config.ts';
import { parseOptions } from './parse-options.ts';

export async function run(argv: string[]): Promise<number> {
  const { values } = parseOptions('receiver', argv, { config: { type: 'string' } });
  const surroundings = readSurroundings();
  const config = loadConfig(values.config, surroundings);
  const receiver = await startReceiver(config, {
    env: surroundings.env,
    runsAsRoot: process.getuid?.() === 0,
    log: createLogger(process.stdout),
  });
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, resolve);
  });
  await receiver.stop();
  return EXIT_CODES.ok;
}
