import { ActionIcon, Button, TextInput, Tooltip } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { memo, useState } from "react";
import { Icon } from "../components/icon/Icon";
import { Failing, Loading } from "../components/State";
import { formatCount } from "../format/duration";
import { StatusIcon } from "../status/StatusIcon";
import { testids } from "../testids";
import styles from "./Output.module.css";
import { OutputLines } from "./OutputLines";
import { findLines, readAll } from "./reader";
import { type Output, type OutputName, useOutput } from "./useOutput";

interface OutputPaneProps extends OutputName {
  /** Whether more may still be printed. */
  readonly live: boolean;
  /** Whether the server no longer keeps it. */
  readonly trimmed: boolean;
}

/** What a test, a suite or the run printed. */
export const OutputPane = memo(function OutputPane({ live, trimmed, ...name }: OutputPaneProps) {
  const output = useOutput(name, live);
  const [text, setText] = useState("");
  const [wanted] = useDebouncedValue(text, 120);
  const [hit, setHit] = useState(0);
  const found = findLines(output.lines, wanted);
  const current =
    found.length === 0 ? undefined : found[((hit % found.length) + found.length) % found.length];
  return (
    <section className={styles.output} aria-label="Output" data-testid={testids.output}>
      <div className={styles.tools}>
        <h3>Output</h3>
        {live && (
          <span className={styles.tailing}>
            <StatusIcon tone="running" size={12} /> following
          </span>
        )}
        <TextInput
          className={styles.search ?? ""}
          size="xs"
          type="search"
          aria-label="Search in output"
          placeholder="Search in output"
          value={text}
          onChange={(event) => {
            setText(event.currentTarget.value);
            setHit(0);
          }}
          onKeyDown={(event) => {
            if (event.key === "Enter") setHit(hit + (event.shiftKey ? -1 : 1));
          }}
        />
        {wanted !== "" && (
          <span className={styles.found} role="status">
            {found.length === 0
              ? "none"
              : `${found.indexOf(current ?? -1) + 1} of ${formatCount(found.length)}`}
          </span>
        )}
        <Download output={output} name={name} />
      </div>
      <Body output={output} live={live} trimmed={trimmed} found={found} current={current} />
    </section>
  );
});

interface BodyProps {
  readonly output: Output;
  readonly live: boolean;
  readonly trimmed: boolean;
  readonly found: readonly number[];
  readonly current: number | undefined;
}

function Body({ output, live, trimmed, found, current }: BodyProps) {
  if (output.state === "failed" && output.version === 0) {
    return (
      <Failing title="The output could not be read" error={output.error} onRetry={output.loadMore} compact />
    );
  }
  if (output.state === "loading") return <Loading label="Loading output" lines={5} />;
  if (output.lines.length === 0) {
    const ended = trimmed ? "What was printed is no longer kept." : "Nothing was printed.";
    return <p className={styles.quiet}>{live ? "Nothing was printed yet." : ended}</p>;
  }
  return (
    <>
      <OutputLines
        lines={output.lines}
        version={output.version}
        live={live}
        found={found}
        current={current}
      />
      <More output={output} />
    </>
  );
}

function More({ output }: { readonly output: Output }) {
  const failed = output.state === "failed";
  if (!output.more && !output.truncated && !failed) return null;
  return (
    <div className={styles.more}>
      {failed && <span>Reading on failed.</span>}
      {(output.more || failed) && (
        <Button variant="default" size="compact-xs" onClick={output.loadMore}>
          {failed ? "Try again" : "Load more"}
        </Button>
      )}
      {output.truncated && !output.more && (
        <span>Some output was dropped by the server because of its size limit.</span>
      )}
    </div>
  );
}

function Download({ output, name }: { readonly output: Output; readonly name: OutputName }) {
  const [busy, setBusy] = useState(false);
  const save = async (): Promise<void> => {
    setBusy(true);
    try {
      const url = URL.createObjectURL(await readAll(output.read, new AbortController().signal));
      const link = document.createElement("a");
      link.href = url;
      link.download = `${
        [name.suite, name.name]
          .filter(Boolean)
          .join("-")
          .replace(/[^\w.-]+/g, "_") || "run"
      }.log`;
      link.click();
      URL.revokeObjectURL(url);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Tooltip label="Download as printed">
      <ActionIcon
        variant="subtle"
        color="gray"
        size={26}
        aria-label="Download output"
        loading={busy}
        onClick={() => void save()}
      >
        <Icon name="download" size={15} />
      </ActionIcon>
    </Tooltip>
  );
}
