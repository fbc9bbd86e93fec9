import type { Client } from "@connectrpc/connect";
import type { NotificationService } from "@tcmanager/gen/tcmanager/v1/notification_pb";
import type { Environment } from "../environment";
import { emptyUser, mergeNotifications, reduceUser, type UserSnapshot, type UserState } from "../rooms/user";
import type { RoomMessage } from "../session";
import type { RoomSnapshot } from "../store";
import { retry } from "./retry";
import type { Noun } from "./room-core";

/** What a bell's list shows; older ones are read by ListNotifications. */
const pageSize = 100;

/** UserNoun is the part of a user's room about notifications, whose older ones are read by a call. */
export class UserNoun implements Noun<UserSnapshot> {
  #state: UserState = emptyUser;
  #loading: AbortController | undefined;

  constructor(
    readonly notifications: Client<typeof NotificationService>,
    readonly environment: Environment,
    readonly changed: () => void,
  ) {}

  readonly apply = (message: RoomMessage): void => {
    this.#state = reduceUser(this.#state, message);
    if (message.kind === "failed") this.stop();
    if (message.kind !== "joined") return;
    if (!message.joined.recovered || this.#state.notificationsState === "failed") this.#load();
  };

  readonly snapshot = (room: RoomSnapshot): UserSnapshot => ({ ...room, ...this.#state });

  readonly stop = (): void => this.#loading?.abort();

  #load(): void {
    this.stop();
    const loading = new AbortController();
    this.#loading = loading;
    const { signal } = loading;
    const put = (change: Partial<UserState>) => {
      if (signal.aborted) return;
      this.#state = { ...this.#state, ...change };
      this.changed();
    };
    put({ notificationsState: "loading" });
    retry(this.environment, signal, () =>
      this.notifications.listNotifications({ pageSize }, { signal }),
    ).then(
      (page) =>
        put({
          notifications: mergeNotifications(this.#state.notifications, page.notifications),
          notificationsState: "complete",
        }),
      () => put({ notificationsState: "failed" }),
    );
  }
}
