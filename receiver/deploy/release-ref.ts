/** Names and addresses of a release. Pure. */
import type { ReleaseSpec } from './plan.ts';

/** Under this name a kept release can be fetched. */
export function releaseRef(release: number): string {
  return `refs/kraftwerk/releases/v${release}`;
}

/** Where people find the site: its canonical domain, with the port where it is not the usual one. */
export function siteUrl(spec: Pick<ReleaseSpec, 'domains'>, port: number): string {
  return `http://${spec.domains[0] ?? 'localhost'}${port === 80 ? '' : `:${port}`}`;
}
