import { type Shard, ShardState } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { Icon, type IconName } from "../../components/icon/Icon";
import { formatClock, formatCount } from "../../format/duration";
import { msOf } from "../../format/timestamp";
import { useNow } from "../../live/now";
import { testids } from "../../testids";
import styles from "./Run.module.css";

/** More runners than this are summed up: a header has to stay one. */
const named = 6;

/** How each runner is. */
export function Shards({ shards }: { readonly shards: readonly Shard[] }) {
  const more = shards.length - named;
  return (
    <>
      {shards.slice(0, named).map((shard) => (
        <ShardChip key={shard.name} shard={shard} alone={shards.length === 1} />
      ))}
      {more > 0 && (
        <span>
          and {more} more, {shards.filter(({ state }) => state === ShardState.LIVE).length} of {shards.length}{" "}
          live
        </span>
      )}
    </>
  );
}

const looks: Readonly<Record<ShardState, { readonly state: string; readonly icon: IconName }>> = {
  [ShardState.UNSPECIFIED]: { state: "unknown", icon: "terminal" },
  [ShardState.LIVE]: { state: "live", icon: "terminal" },
  [ShardState.DISCONNECTED]: { state: "disconnected", icon: "offline" },
  [ShardState.FINISHED]: { state: "finished", icon: "check" },
};

function ShardChip({ shard, alone }: { readonly shard: Shard; readonly alone: boolean }) {
  const look = looks[shard.state] ?? looks[ShardState.UNSPECIFIED];
  const acked = formatCount(Number(shard.committedSequence));
  return (
    <span
      className={styles.shard}
      data-testid={testids.shard}
      data-shard={shard.name}
      data-state={look.state}
      title={`Runner ${shard.name}: ${acked} items committed`}
    >
      <Icon name={look.icon} size={14} />
      <span>
        {alone ? "runner" : shard.name} <ShardWords shard={shard} acked={acked} />
      </span>
    </span>
  );
}

function ShardWords({ shard, acked }: { readonly shard: Shard; readonly acked: string }) {
  switch (shard.state) {
    case ShardState.LIVE:
      // How much is acked is told only when a runner's state changes: while it is live the number would be old.
      return "live";
    case ShardState.DISCONNECTED:
      return <Since shard={shard} />;
    case ShardState.FINISHED:
      return `finished ${acked} of ${acked} acked${shard.exitCode === undefined ? "" : `, exit code ${shard.exitCode}`}`;
    default:
      return "";
  }
}

function Since({ shard }: { readonly shard: Shard }) {
  const now = useNow(1000);
  const since = msOf(shard.changedAt);
  return since === undefined ? "disconnected" : `disconnected for ${formatClock(now - since)}`;
}
