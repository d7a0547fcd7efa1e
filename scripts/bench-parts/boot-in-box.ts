/** gunicorn's own boot in throw-away boxes, without kraftwerk: one alone, and as many at once as there are boxes. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { transformSync } from 'esbuild';
import type { Box } from '../../tests/actors/box.ts';

const SOURCE = fileURLToPath(new URL('./gunicorn-boot.ts', import.meta.url));
/** By then Node runs in all boxes and waits: only the boots run into each other. */
const LEAD_MS = 3_000;

/** @returns milliseconds to the first 200, one for each box; they all begin in the same instant */
export async function bootTogether(boxes: readonly Box[], instance: string): Promise<number[]> {
  // The boxes' Node knows no TypeScript; their clock is this machine's.
  const { code } = transformSync(readFileSync(SOURCE, 'utf8'), { loader: 'ts', format: 'cjs', target: 'node18' });
  const at = Date.now() + LEAD_MS;
  return await Promise.all(
    boxes.map(async (box) => {
      const link = (await box.run(['readlink', `/web/${instance}/current`])).trim();
      const release = Number(link.replace('releases/v', ''));
      const script = `${code}
setTimeout(async () => {
  console.log(await module.exports.measureBoot('/', ${JSON.stringify(instance)}, ${release}));
}, ${at} - Date.now());
`;
      return Number(await box.run(['node', '-'], script));
    }),
  );
}
