import { ActionIcon, Button, TextInput, Tooltip } from "@mantine/core";
import type { RunSnapshot } from "@tcmanager/client";
import { memo, type RefObject, useCallback, useRef } from "react";
import { Icon } from "../../components/icon/Icon";
import { Panel } from "../../components/Panel";
import { Empty, Failing, Loading } from "../../components/State";
import { formatCount } from "../../format/duration";
import type { Only } from "../../router/route";
import { testids } from "../../testids";
import type { RunTree } from "../../tree/tree";
import styles from "./Tree.module.css";
import { TreeRows } from "./TreeRows";
import type { RunViewState } from "./useRunView";
import { useTick } from "./useTick";

interface TestTreeProps {
  readonly tree: RunTree;
  readonly snapshot: RunSnapshot;
  readonly view: RunViewState;
  readonly onReload: () => void;
}

/** All tests of a run as a tree, with a filter. */
export function TestTree({ tree, snapshot, view, onReload }: TestTreeProps) {
  const filterBox = useRef<HTMLInputElement>(null);
  const redraw = useTick();
  const setAllOpen = useCallback(
    (open: boolean) => {
      tree.setAllOpen(open);
      redraw();
    },
    [tree, redraw],
  );
  const showOutput = useCallback(() => view.select(""), [view]);
  return (
    <Panel
      title="Tests"
      count={
        <span data-testid={testids.testsKnown} data-value={snapshot.rowsLoaded}>
          {countOf(snapshot)}
        </span>
      }
      aside={<TreeButtons onSetAll={setAllOpen} onOutput={showOutput} />}
      className={styles.panel}
    >
      <Filter box={filterBox} view={view} />
      <TreeBody
        tree={tree}
        snapshot={snapshot}
        view={view}
        onReload={onReload}
        filterBox={filterBox}
        onChange={redraw}
      />
      <Foot tree={tree} />
    </Panel>
  );
}

function countOf({ rowsState, rowsLoaded, rowsExpected }: RunSnapshot): string {
  return rowsState === "loading" && rowsExpected > rowsLoaded
    ? `${formatCount(rowsLoaded)} of ${formatCount(rowsExpected)} read`
    : formatCount(rowsLoaded);
}

interface TreeButtonsProps {
  readonly onSetAll: (open: boolean) => void;
  readonly onOutput: () => void;
}

const TreeButtons = memo(function TreeButtons({ onSetAll, onOutput }: TreeButtonsProps) {
  const buttons = [
    { name: "Output of the run", icon: "terminal", act: onOutput },
    { name: "Expand all", icon: "expand", act: () => onSetAll(true) },
    { name: "Collapse all", icon: "collapse", act: () => onSetAll(false) },
  ] as const;
  return buttons.map(({ name, icon, act }) => (
    <Tooltip key={name} label={name}>
      <ActionIcon variant="subtle" color="gray" size={26} aria-label={name} onClick={act}>
        <Icon name={icon} size={15} />
      </ActionIcon>
    </Tooltip>
  ));
});

const segments: readonly { readonly only: Only; readonly word: string }[] = [
  { only: "all", word: "All" },
  { only: "failed", word: "Failed" },
];

interface FilterProps {
  readonly box: RefObject<HTMLInputElement | null>;
  readonly view: RunViewState;
}

const Filter = memo(function Filter({ box, view }: FilterProps) {
  const extra = segments.some(({ only }) => only === view.only)
    ? []
    : [{ only: view.only, word: capital(view.only) }];
  return (
    <div className={styles.tools}>
      <TextInput
        ref={box}
        className={styles.filter ?? ""}
        size="xs"
        type="search"
        aria-label="Filter tests"
        placeholder="Filter by package or name"
        data-testid={testids.testFilter}
        leftSection={<Icon name="search" size={14} />}
        value={view.filter}
        onChange={(event) => view.setFilter(event.currentTarget.value)}
      />
      {/* biome-ignore lint/a11y/useSemanticElements: a fieldset can't be laid out as one row in all browsers */}
      <div className={styles.segments} role="group" aria-label="Which tests to show">
        {[...segments, ...extra].map(({ only, word }) => (
          <button
            key={only}
            type="button"
            aria-pressed={view.only === only}
            onClick={() => view.setOnly(only)}
          >
            {word}
          </button>
        ))}
      </div>
    </div>
  );
});

function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

interface TreeBodyProps extends TestTreeProps {
  readonly filterBox: RefObject<HTMLInputElement | null>;
  readonly onChange: () => void;
}

function TreeBody({ tree, snapshot, view, onReload, filterBox, onChange }: TreeBodyProps) {
  const lines = tree.visible();
  if (snapshot.rowsState === "failed") {
    return (
      <Failing title="The tests could not be read" error={snapshot.rowsError} onRetry={onReload} compact />
    );
  }
  if (lines.length > 0) {
    return (
      <TreeRows
        tree={tree}
        lines={lines}
        rows={snapshot.rows}
        suites={snapshot.suites}
        view={view}
        filterBox={filterBox}
        onChange={onChange}
      />
    );
  }
  if (snapshot.rowsState === "loading") return <Loading label="Loading tests" lines={8} />;
  if (tree.filtered) return <NothingMatches view={view} />;
  return (
    <Empty icon="clock" title="No tests yet" compact>
      They appear here as the runner reports them.
    </Empty>
  );
}

function NothingMatches({ view }: { readonly view: RunViewState }) {
  return (
    <Empty
      icon="search"
      title={view.only === "failed" && view.filter === "" ? "Nothing failed" : "No test matches"}
      compact
    >
      <Button
        variant="default"
        onClick={() => {
          view.setFilter("");
          view.setOnly("all");
        }}
      >
        Show all tests
      </Button>
    </Empty>
  );
}

function Foot({ tree }: { readonly tree: RunTree }) {
  return (
    <footer className={styles.foot}>
      <span className="tabular">
        {tree.filtered
          ? `${formatCount(tree.matching)} match`
          : `${formatCount(tree.visible().length)} lines shown`}
      </span>
      <span className={styles.keys} aria-hidden="true">
        <span>
          <kbd>/</kbd> filter
        </span>
        <span>
          <kbd>j</kbd> <kbd>k</kbd> move
        </span>
        <span>
          <kbd>f</kbd> failed only
        </span>
        <span>
          <kbd>Enter</kbd> open
        </span>
      </span>
    </footer>
  );
}
