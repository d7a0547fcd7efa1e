/** What pip may install in tests: wheels of the fixtures' requirements, fetched once, and small ones made by hand. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Ignored by git; `fetchWheels` fills it. */
export const WHEELS = fileURLToPath(new URL('../../build/wheels', import.meta.url));
/** What the fixtures' requirements files name. */
const NEEDED_WHEELS = ['flask', 'django'];
const DOWNLOAD_LIMIT_MS = 180_000;

/**
 * Downloads the wheels that are missing, one by one, through the machine's own pip configuration: an index that cannot be
 * reached fails those that need it, and no others.
 */
export function fetchWheels(): void {
  for (const name of NEEDED_WHEELS.filter((one) => !hasWheel(one))) {
    mkdirSync(WHEELS, { recursive: true });
    const { status, stderr } = spawnSync(
      '/usr/bin/python3',
      ['-m', 'pip', 'download', '--quiet', '--retries', '0', '--only-binary', ':all:', '--dest', WHEELS, name],
      { timeout: DOWNLOAD_LIMIT_MS, encoding: 'utf8' },
    );
    if (status !== 0) console.error(`pip could not download ${name}; what installs it will fail\n${stderr}`);
  }
}

export function hasWheel(name: string): boolean {
  try {
    return readdirSync(WHEELS).some((file) => file.toLowerCase().startsWith(`${name}-`) && file.endsWith('.whl'));
  } catch {
    return false;
  }
}

/** Tests do without an index: what is not in the folders does not exist. */
export function pipEnvironment(...folders: string[]): Record<string, string> {
  return {
    PIP_NO_INDEX: '1',
    PIP_FIND_LINKS: [WHEELS, ...folders].join(' '),
    PIP_CONFIG_FILE: '/dev/null',
    PIP_RETRIES: '0',
  };
}

const WHEEL_MAKER = `
import sys, zipfile
folder, name, version, code = sys.argv[1:]
info = f"{name}-{version}.dist-info"
with zipfile.ZipFile(f"{folder}/{name}-{version}-py3-none-any.whl", "w") as wheel:
    wheel.writestr(f"{name}.py", code)
    wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nGenerator: tests\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr(f"{info}/RECORD", "")
`;

/** A package of one module, which knows its version. */
export function makeWheel(folder: string, name: string, version: string): void {
  mkdirSync(folder, { recursive: true });
  execFileSync('/usr/bin/python3', ['-I', '-c', WHEEL_MAKER, folder, name, version, `VERSION = "${version}"\n`]);
}

/** @throws with a message that helps, when the wheel could not be had */
export function needWheel(name: string): void {
  if (!hasWheel(name))
    throw new Error(`this test installs ${name}; pip could not download it: pip download --dest build/wheels ${name}`);
}
