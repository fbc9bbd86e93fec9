import { Button, Textarea } from "@mantine/core";
import type { Comment } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { type FormEvent, useState } from "react";
import { Panel } from "../../components/Panel";
import { Empty, Loading, messageOf } from "../../components/State";
import { formatAgo, formatMoment } from "../../format/duration";
import { msOf } from "../../format/timestamp";
import { useNow } from "../../live/now";
import { Avatar } from "../../people/Presence";
import { Typing } from "../../testcase/FieldFrame";
import { useOthers, useTeller } from "../../testcase/useField";
import { fieldIds, testids } from "../../testids";
import styles from "./Case.module.css";
import type { EditorProps } from "./CasePage";

interface CommentsProps extends EditorProps {
  readonly readOnly: boolean;
}

/** What people say about a test case. */
export function Comments(props: CommentsProps) {
  const { comments, commentsState } = props.snapshot;
  return (
    <Panel title="Comments" count={comments.length}>
      {comments.length === 0 && commentsState === "loading" && <Loading label="Loading comments" lines={2} />}
      {comments.length === 0 && commentsState === "complete" && (
        <Empty icon="check" title="No comments yet" compact>
          Questions and decisions about this test case belong here, where everybody sees them.
        </Empty>
      )}
      {commentsState === "failed" && <p className={styles.pad}>Older comments could not be read.</p>}
      <ol className={styles.comments}>
        {comments.map((comment) => (
          <Line key={comment.id} comment={comment} />
        ))}
      </ol>
      {!props.readOnly && <Write {...props} />}
    </Panel>
  );
}

function Line({ comment }: { readonly comment: Comment }) {
  const now = useNow(10_000);
  const at = msOf(comment.createdAt);
  const author = comment.author?.name ?? "Somebody";
  return (
    <li className={styles.comment} data-testid={testids.comment} data-author={comment.author?.id}>
      <Avatar userId={comment.author?.id ?? ""} name={author} />
      <p className={styles.byline}>
        <b>{author}</b>
        {at !== undefined && (
          <time dateTime={new Date(at).toISOString()} title={formatMoment(at)}>
            {formatAgo(at, now)}
          </time>
        )}
      </p>
      <p className={styles.text}>{comment.text}</p>
    </li>
  );
}

function Write({ store, snapshot }: EditorProps) {
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const teller = useTeller(store, snapshot, "comment");
  const others = useOthers(snapshot.activity, "comment");
  const send = async (): Promise<void> => {
    if (text.trim() === "" || busy) return;
    setBusy(true);
    setError(undefined);
    try {
      await store.addComment(text.trim());
      setText("");
    } catch (thrown) {
      setError(thrown);
    } finally {
      setBusy(false);
    }
  };
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    void send();
  };
  return (
    <form className={styles.write} onSubmit={submit}>
      <Textarea
        aria-label="Write a comment"
        placeholder="Write a comment"
        data-testid={testids.commentInput}
        autosize
        minRows={2}
        maxRows={12}
        maxLength={4000}
        value={text}
        error={error === undefined ? undefined : messageOf(error)}
        onChange={(event) => {
          setText(event.currentTarget.value);
          teller.type();
        }}
        onFocus={() => teller.focus()}
        onBlur={() => teller.leave()}
        onKeyDown={(event) => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void send();
        }}
      />
      <div className={styles.actions}>
        <Typing testId={fieldIds("comment").typing} others={others} />
        <Button type="submit" loading={busy} disabled={text.trim() === ""} data-testid={testids.commentSend}>
          Comment
        </Button>
      </div>
    </form>
  );
}
