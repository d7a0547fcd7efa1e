/** Times, durations and sizes as people read them. Pure. */

/** `2026-11-22T10:20:30Z`; `-` for none. */
export function formatTime(iso: string | null): string {
  return iso === null ? '-' : `${iso.slice(0, 19)}Z`;
}

/** The two largest units: `42s`, `3m 20s`, `5h 1m`, `12d 3h`. */
export function formatSeconds(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const parts: readonly (readonly [number, string])[] = [
    [Math.floor(whole / 86_400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'm'],
    [whole % 60, 's'],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return '0s';
  return parts
    .slice(first, first + 2)
    .filter(([count], index) => index === 0 || count > 0)
    .map(([count, unit]) => `${count}${unit}`)
    .join(' ');
}

/** `45 MiB`, `20.0 GiB` */
export function formatSize(bytes: number): string {
  const gib = bytes / 1024 ** 3;
  return gib < 1 ? formatBytes(bytes) : `${gib.toFixed(1)} GiB`;
}

/** `45 MiB` */
export function formatBytes(bytes: number): string {
  return `${Math.round(bytes / 1024 / 1024)} MiB`;
}
