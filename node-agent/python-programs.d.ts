/** A Python program of the agent, as text: the bundle holds it, see scripts/build.ts and vitest.config.ts. */
declare module '*.py' {
  const text: string;
  export = text;
}
