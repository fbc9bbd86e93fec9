import { createClient } from "@tcmanager/client";

/** watch calls say with a line for each failure of a run, newest last, until the function it returns is called. */
export function watch(
  baseUrl: string,
  token: string,
  runId: string,
  say: (line: string) => void,
): () => void {
  const client = createClient({ baseUrl, token: () => token });
  const run = client.openRun(runId);
  const said = new Set<string>();
  run.subscribe(() => {
    const { state, error, failures } = run.getSnapshot();
    if (state === "failed") say(`can't watch: ${error?.message}`);
    for (const { suite, name, attempt, message } of failures.toReversed()) {
      const line = `${suite} ${name} (attempt ${attempt}): ${message}`;
      if (!said.has(line)) say(line);
      said.add(line);
    }
  });
  return () => client.close();
}
