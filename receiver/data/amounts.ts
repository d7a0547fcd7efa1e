/** Amounts of data as people read them, in steps of a thousand. Pure. */

/** `12 B`, `3.4 MB`, `1.2 GB` */
export function formatAmount(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}
