/** What the boxes of a test run are, and what of a suite its tests must know. @see docs/boxes.md */

/** Debian 12 and 13. */
export type Suite = 'bookworm' | 'trixie';

/** Of all boxes that are not told another: vitest's project `trixie` runs the same files on that one. */
export const SUITE: Suite = process.env.KRAFTWERK_SUITE === 'trixie' ? 'trixie' : 'bookworm';

/** The version of PostgreSQL in that suite: a part of paths and units. */
export const POSTGRES = { bookworm: '15', trixie: '17' }[SUITE];
