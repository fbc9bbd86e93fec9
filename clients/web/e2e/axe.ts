import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import type { Page } from "playwright-core";

const source = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

interface Problem {
  readonly rule: string;
  readonly impact: string;
  readonly nodes: readonly string[];
}

/** Waits until what moves has come to rest. */
async function settled(page: Page): Promise<void> {
  await page.evaluate(() =>
    Promise.all(
      document
        .getAnimations()
        .filter((each) => each.effect?.getComputedTiming().endTime !== Number.POSITIVE_INFINITY)
        .map((each) => each.finished.catch(() => {})),
    ),
  );
}

/** Asks axe-core what is seriously wrong with a page. */
export async function seriousProblems(page: Page): Promise<readonly Problem[]> {
  await settled(page); // between two states a colour is neither
  await page.evaluate(await readFile(source, "utf8")); // by the debugger: the page's policy lets no script in
  return await page.evaluate(async () => {
    const { axe } = window as unknown as { axe: typeof import("axe-core") };
    const { violations } = await axe.run(document, { resultTypes: ["violations"] });
    return violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, impact, nodes }) => ({
        rule: id,
        impact: impact ?? "",
        nodes: nodes.map(({ html, failureSummary }) => `${html.slice(0, 200)} ${failureSummary ?? ""}`),
      }));
  });
}

/** Saves a picture for people to look at, if they said where. */
export async function picture(page: Page, name: string): Promise<void> {
  await settled(page);
  const dir = process.env.TCM_PICTURES;
  if (dir !== undefined) await page.screenshot({ path: `${dir}/${name}.png` });
}
