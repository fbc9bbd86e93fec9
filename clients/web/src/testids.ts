/**
 * The handles of end-to-end tests, as data-testid. Each is stable: tests outside
 * this package name them as text. What a handle carries besides stands beside it.
 *
 * Pages and shell
 *   sign-in                  the sign-in page; cards of development users are sign-in-user with data-user
 *   connection-state         data-state: live | off | connecting | catching-up | reconnecting | offline | closed;
 *                            data-quality; data-carrier: websocket | stream | long-poll | poll | off
 *   status-widget            the panel that connection-state opens; status-event is a line of it, reconnect its button
 *   bell                     data-unread: the count; notification-center is its panel, notification a line with data-read
 *   presence                 who is here; presence-user is a person with data-user and data-state,
 *                            presence-more how many more there are
 *   toast                    a notification that just arrived (text inside)
 *   not-saved                a change of the page before a reload that could not be saved
 *   user-menu                data-user: who is signed in
 *
 * Lists
 *   project-row              data-project: the key
 *   run-row                  data-run: the id; data-state: as run-state
 *   case-row                 data-case: the id; data-key: "TC-1"
 *   activity-item            a line of the activity feed
 *
 * Run page
 *   run-state                data-state: planned | running | failing | passed | failed | cancelled | timed-out | interrupted | aborted
 *   results-trimmed          says that the results that passed, and the output, are no longer kept
 *   run-clock                the elapsed time
 *   count-total, count-passed, ... the number alone is its text, with commas; data-value is it without
 *   progress                 the segmented bar
 *   shard                    data-shard, data-state: live | disconnected | finished
 *   running-test             a test in flight: data-suite, data-test
 *   failure                  a failed test, newest first: data-suite, data-test
 *   test-row                 a line of the tree: data-suite, data-test (empty for a suite), data-status (passed, failed, ...)
 *   test-filter              the filter box
 *   tests-known              how many tests the tree has; data-value is it without commas
 *   details                  the selected test: data-suite, data-test, data-status
 *   output                   its output
 *
 * Test case
 *   field-title, field-description, field-priority, field-status   the inputs
 *   saved-title, ...         data-state: saved | saving | typing | conflict | offline | failed
 *   editors-title, ...       who else is in the field; data-users: ids of the first five, apart by spaces
 *   typing-title, ..., typing-comment   "... is typing…"
 *   comment                  a comment; comment-input and comment-send write one
 */
export const testids = {
  resultsTrimmed: "results-trimmed",
  signIn: "sign-in",
  signInUser: "sign-in-user",
  connection: "connection-state",
  statusWidget: "status-widget",
  statusEvent: "status-event",
  reconnect: "reconnect",
  bell: "bell",
  notificationCenter: "notification-center",
  notification: "notification",
  presence: "presence",
  presenceUser: "presence-user",
  presenceMore: "presence-more",
  toast: "toast",
  notSaved: "not-saved",
  userMenu: "user-menu",
  projectRow: "project-row",
  runRow: "run-row",
  caseRow: "case-row",
  activityItem: "activity-item",
  runState: "run-state",
  runClock: "run-clock",
  progress: "progress",
  shard: "shard",
  runningTest: "running-test",
  failure: "failure",
  testRow: "test-row",
  testFilter: "test-filter",
  testsKnown: "tests-known",
  details: "details",
  output: "output",
  comment: "comment",
  commentInput: "comment-input",
  commentSend: "comment-send",
} as const;

/** A counter's handle, for example "count-passed". */
export function countId(name: string): string {
  return `count-${name}`;
}

/** The handles around an editable field, for example fieldIds("title").saved is "saved-title". */
export function fieldIds(field: string): { input: string; saved: string; editors: string; typing: string } {
  return {
    input: `field-${field}`,
    saved: `saved-${field}`,
    editors: `editors-${field}`,
    typing: `typing-${field}`,
  };
}
