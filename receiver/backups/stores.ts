/** The stores that environments' backups are copied to, one connection each. */
import type { Config } from '../config.ts';
import type { AwsCredentials } from '../providers/sigv4.ts';
import { createObjectStore, type ObjectStore } from './object-store.ts';

export function createStores(
  environments: Config['environments'],
  credentials: AwsCredentials | null,
): { of(environment: string): ObjectStore | null; close(): void } {
  const stores = new Map<string, ObjectStore>();
  for (const { backups, name } of environments.values()) {
    const copy = backups?.copy ?? null;
    if (copy !== null && credentials !== null) stores.set(name, createObjectStore(copy, credentials));
  }
  return {
    of: (environment) => stores.get(environment) ?? null,
    close(): void {
      for (const store of stores.values()) store.close();
    },
  };
}
