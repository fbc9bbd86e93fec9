import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const version = "golang.org/x/text@v0.43.0";

/**
 * The path of what `go test -json -short ./...` says in golang.org/x/text: some
 * 46,000 tests. It is recorded once, in a copy of the module. TCM_RECORDING
 * names a recording that is there already.
 */
export async function recording(): Promise<string> {
  const given = process.env.TCM_RECORDING;
  if (given !== undefined) return given;
  const path = join(tmpdir(), "tcmanager-xtext.json");
  if (existsSync(path)) return path;
  const { stdout } = await run("go", ["mod", "download", "-json", version], { cwd: tmpdir() });
  const { Dir: source }: { readonly Dir: string } = JSON.parse(stdout);
  const copy = await mkdtemp(join(tmpdir(), "tcmanager-xtext-"));
  try {
    await cp(source, copy, { recursive: true });
    await run("chmod", ["-R", "u+w", copy]);
    // Some of its tests fail with a newer Go; the recording is none the worse.
    const line = `go test -json -short ./... > '${path}.part' 2>/dev/null || true; mv '${path}.part' '${path}'`;
    await run("bash", ["-c", line], { cwd: copy, env: { ...process.env, GOWORK: "off" } });
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
  return path;
}
