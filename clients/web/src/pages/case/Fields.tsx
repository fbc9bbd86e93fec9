import { NativeSelect, Textarea, TextInput } from "@mantine/core";
import { useId } from "react";
import { FieldFrame } from "../../testcase/FieldFrame";
import { useField } from "../../testcase/useField";
import { type Choice, priorities, statuses } from "../../testcase/words";
import { fieldIds } from "../../testids";
import styles from "./Case.module.css";
import type { EditorProps } from "./CasePage";

interface FieldProps extends EditorProps {
  readonly readOnly: boolean;
}

/** The title, in one line. */
export function TitleField({ store, snapshot, testCase, readOnly }: FieldProps) {
  const id = useId();
  const field = useField(store, snapshot, testCase, "title");
  return (
    <FieldFrame name="title" label="Title" inputId={id} field={field}>
      <TextInput
        id={id}
        className={styles.title ?? ""}
        data-testid={fieldIds("title").input}
        readOnly={readOnly}
        value={field.value}
        onChange={(event) => field.type(event.currentTarget.value)}
        onFocus={field.onFocus}
        onBlur={field.onBlur}
        autoComplete="off"
      />
    </FieldFrame>
  );
}

/** The description, as long as it needs to be. */
export function DescriptionField({ store, snapshot, testCase, readOnly }: FieldProps) {
  const id = useId();
  const field = useField(store, snapshot, testCase, "description");
  return (
    <FieldFrame name="description" label="Description" inputId={id} field={field}>
      <Textarea
        id={id}
        className={styles.description ?? ""}
        data-testid={fieldIds("description").input}
        readOnly={readOnly}
        autosize
        minRows={10}
        maxRows={40}
        placeholder={readOnly ? "No description" : "What has to be true, how to try it, and what is expected"}
        value={field.value}
        onChange={(event) => field.type(event.currentTarget.value)}
        onFocus={field.onFocus}
        onBlur={field.onBlur}
      />
    </FieldFrame>
  );
}

interface ChoiceFieldProps extends FieldProps {
  readonly name: "priority" | "status";
  readonly label: string;
}

/** A field with few values. */
export function ChoiceField({ store, snapshot, testCase, name, label, readOnly }: ChoiceFieldProps) {
  const id = useId();
  const field = useField(store, snapshot, testCase, name);
  const choices: readonly Choice[] = name === "priority" ? priorities : statuses;
  return (
    <FieldFrame
      name={name}
      label={label}
      inputId={id}
      field={field}
      read={(value) => choices.find((choice) => choice.value === value)?.label ?? value}
    >
      <NativeSelect
        id={id}
        data-testid={fieldIds(name).input}
        disabled={readOnly}
        data={choices.map(({ value, label: text }) => ({ value, label: text }))}
        value={field.value}
        onChange={(event) => field.choose(event.currentTarget.value)}
        onFocus={field.onFocus}
        onBlur={field.onBlur}
      />
    </FieldFrame>
  );
}
