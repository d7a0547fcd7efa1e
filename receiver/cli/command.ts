// What a command of the admin's machine is: its words for help and completion, and the file that runs it.

export interface CliCommand {
  name: string;
  summary: string;
  usage: string;
  /** Lines of the command's own help. */
  details: readonly string[];
  examples: readonly string[];
  /** What its first word may be, for completion. */
  words?: readonly string[];
  load(): Promise<CliModule>;
}

export interface CliModule {
  /**
   * @param commands all of them, for `help` and `completion`
   * @returns the exit code; data goes to stdout, the rest to stderr
   */
  run(argv: string[], commands: readonly CliCommand[]): Promise<number>;
}
