// Which of two versions is newer: `0.10.0` after `0.9.1`, `1.0.0` after `1.0.0-rc.1`. Pure.

/** Below 0: `a` is the older one; 0: the same. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [parse(a), parse(b)];
  for (let at = 0; at < Math.max(left.numbers.length, right.numbers.length); at += 1) {
    const difference = (left.numbers[at] ?? 0) - (right.numbers[at] ?? 0);
    if (difference !== 0) return difference;
  }
  if (left.suffix === right.suffix) return 0;
  // What has a suffix comes before what has none.
  if (left.suffix === '') return 1;
  if (right.suffix === '') return -1;
  return left.suffix.localeCompare(right.suffix, 'en', { numeric: true });
}

function parse(version: string): { numbers: number[]; suffix: string } {
  const [numbers = '', ...suffix] = version.trim().split('-');
  return { numbers: numbers.split('.').map((part) => Number.parseInt(part, 10) || 0), suffix: suffix.join('-') };
}
