/** Finds what was probably meant when a name is not known. Pure. */

/** Letters to add, drop, replace, or swap with their neighbour. */
function editDistance(left: string, right: string): number {
  const rows: number[][] = [Array.from({ length: right.length + 1 }, (_, index) => index)];
  for (let row = 1; row <= left.length; row += 1) {
    const current = [row];
    const above = rows[row - 1] ?? [];
    for (let column = 1; column <= right.length; column += 1) {
      const same = left[row - 1] === right[column - 1];
      const swapped = left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1];
      current.push(
        Math.min(
          (above[column - 1] ?? 0) + (same ? 0 : 1),
          (above[column] ?? 0) + 1,
          (current[column - 1] ?? 0) + 1,
          row > 1 && column > 1 && swapped ? (rows[row - 2]?.[column - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY,
        ),
      );
    }
    rows.push(current);
  }
  return rows[left.length]?.[right.length] ?? 0;
}

/** The choice nearest to `given`, when it is near enough to be a slip of the fingers; else null. */
export function suggest(given: string, choices: Iterable<string>): string | null {
  if (given.length > 64) return null;
  const wanted = given.toLowerCase();
  let best: { choice: string; distance: number } | null = null;
  for (const choice of choices) {
    const distance = editDistance(wanted, choice.toLowerCase());
    const limit = Math.max(1, Math.floor(Math.max(wanted.length, choice.length) / 3));
    if (distance <= limit && (best === null || distance < best.distance)) best = { choice, distance };
  }
  return best?.choice ?? null;
}
