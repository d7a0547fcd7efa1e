/** What pip may install in tests: wheels of the fixtures' requirements, fetched once, and small ones made by hand. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Ignored by git; `tests/scenarios/global-setup.ts` fills it. */
export const WHEELS = fileURLToPath(new URL('../../build/wheels', import.meta.url));
/** What the fixtures' requirements files name. */
export const NEEDED_WHEELS = ['flask', 'django'];

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
