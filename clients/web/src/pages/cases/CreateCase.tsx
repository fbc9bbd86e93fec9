import { Button, Modal, NativeSelect, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Priority } from "@tcmanager/gen/tcmanager/v1/testcase_pb";
import { type FormEvent, useMemo, useState } from "react";
import { messageOf } from "../../components/State";
import { useClient } from "../../live/client";
import { navigate } from "../../router/history";
import { formatRoute } from "../../router/route";
import { priorities, priorityChoice } from "../../testcase/words";
import styles from "./Cases.module.css";

interface CreateCaseProps {
  readonly project: string;
  readonly opened: boolean;
  readonly onClose: () => void;
}

/** Makes a test case, and opens it. */
export function CreateCase({ project, opened, onClose }: CreateCaseProps) {
  return (
    <Modal
      opened={opened}
      onClose={onClose}
      title="New test case"
      radius={10}
      closeButtonProps={{ "aria-label": "Close" }}
    >
      <CreateForm project={project} onClose={onClose} />
    </Modal>
  );
}

function CreateForm({ project, onClose }: Omit<CreateCaseProps, "opened">) {
  const client = useClient();
  const queries = useQueryClient();
  const [title, setTitle] = useState("");
  const [priority, setPriority] = useState(Priority.MEDIUM);
  // One id for all attempts at the same case: pressing the button again after a lost answer makes no second one.
  // biome-ignore lint/correctness/useExhaustiveDependencies: another title or priority is another case
  const requestId = useMemo(() => crypto.getRandomValues(new Uint32Array(4)).join("-"), [title, priority]);
  const { mutate, error, isPending } = useMutation({
    mutationFn: () => client.testCases.createTestCase({ project, title: title.trim(), priority, requestId }),
    onSuccess: ({ testCase }) => {
      void queries.invalidateQueries({ queryKey: ["cases", project] });
      onClose();
      if (testCase !== undefined) navigate(formatRoute({ page: "case", testCase: testCase.id }));
    },
  });
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    if (title.trim() !== "") mutate();
  };
  return (
    <form className={styles.form} onSubmit={submit}>
      <TextInput
        label="Title"
        placeholder="A customer can pay by card"
        maxLength={200}
        value={title}
        onChange={(event) => setTitle(event.currentTarget.value)}
        error={error === null ? undefined : messageOf(error)}
        data-autofocus
      />
      <NativeSelect
        label="Priority"
        description="When a test linked to a critical case fails, the project is notified."
        data={priorities.map(({ value, label }) => ({ value, label }))}
        value={priorityChoice(priority).value}
        onChange={(event) =>
          setPriority(
            priorities.find((each) => each.value === event.currentTarget.value)?.priority ?? Priority.MEDIUM,
          )
        }
      />
      <div className={styles.actions}>
        <Button variant="default" onClick={onClose}>
          Cancel
        </Button>
        <Button type="submit" loading={isPending} disabled={title.trim() === ""}>
          Create
        </Button>
      </div>
    </form>
  );
}
