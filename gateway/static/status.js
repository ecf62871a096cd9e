// The line below the message box: how the connection is doing, and how far the answer has come.

export class StatusLine {
  #state;
  #trace;
  #held = null;
  #last = null;
  /** The answer that is being followed: {state, waiting, entries, resumed, origin}; null if none is. */
  followed = null;

  constructor(state, trace) {
    this.#state = state;
    this.#trace = trace;
  }

  /** Say something; with `holdMs` for so long at least, as far as "writing" is concerned. */
  say(kind, text, holdMs = 0) {
    if (this.#held && !holdMs && kind === 'busy') return;
    clearTimeout(this.#held);
    this.#held = holdMs ? setTimeout(() => ((this.#held = null), this.settle()), holdMs) : null;
    this.#state.dataset.kind = kind;
    this.#state.lastElementChild.textContent = text;
  }

  /** Say what is going on now. */
  settle() {
    const { followed } = this;
    if (followed?.state === 'reconnecting') {
      this.say('trouble', navigator.onLine === false ? 'No network. The answer goes on without you.' : 'Reconnecting…');
    } else if (followed) this.say('busy', followed.waiting ?? 'Writing');
    else this.say('', 'Ready');
  }

  /** Show the numbers of the answer that is followed, or was last. */
  trace() {
    if (this.followed) this.#last = { ...this.followed };
    const { entries = 0, resumed = 0, origin = location.origin } = this.#last ?? {};
    const parts = [`entry ${entries}`, `over :${new URL(origin).port}`, resumed && `resumed ${resumed}×`];
    this.#trace.textContent = entries ? parts.filter(Boolean).join(' · ') : '';
  }

  /** Another chat is opened. */
  forget() {
    this.followed = this.#last = null;
    this.trace();
  }
}
