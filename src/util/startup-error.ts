/**
 * A problem that stops a command. The message is one sentence for the operator and is printed without a stack. It names
 * the problem and, after a colon, the remedy.
 */
export class StartupError extends Error {
  override readonly name = "StartupError";
  readonly problem: string;
  readonly remedy: string | undefined;

  constructor(problem: string, options: { readonly remedy?: string; readonly cause?: unknown } = {}) {
    const { remedy, cause } = options;
    super(remedy === undefined ? problem : `${problem}: ${remedy}`, { cause });
    this.problem = problem;
    this.remedy = remedy;
  }
}
