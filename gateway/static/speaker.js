// What a screen reader is told: whole sentences every few seconds while an answer grows, not every token.

import { textOf } from './talk.js';

const EVERY_MS = 4000;
const KEPT = 6;

export class Speaker {
  #region;
  #message = null;
  #said = '';
  #timer = null;

  constructor(region) {
    this.#region = region;
  }

  /** Say one thing now. */
  say(text) {
    this.#region.append(Object.assign(document.createElement('p'), { textContent: text }));
    while (this.#region.childElementCount > KEPT) this.#region.firstElementChild.remove();
  }

  /** Note how far an answer has come. */
  hear(message) {
    if (this.#message?.message_id !== message.message_id) this.#said = '';
    this.#message = message;
    this.#timer ??= setTimeout(() => this.#speak(), EVERY_MS);
  }

  /** What has not been said of its text; all of it where what was said is void. */
  #unsaid(message) {
    const text = textOf(message);
    if (!text.startsWith(this.#said)) this.#said = '';
    return text.slice(this.#said.length);
  }

  #speak() {
    this.#timer = null;
    if (!this.#message) return;
    const fresh = this.#unsaid(this.#message);
    const end = Math.max(...['. ', '! ', '? ', '\n', '。', '！', '？'].map((mark) => fresh.lastIndexOf(mark)));
    if (end < 0) return;
    this.#said += fresh.slice(0, end + 1);
    this.say(plain(fresh.slice(0, end + 1)));
  }

  /** The answer is over: say what has not been said, and how it ended. */
  finish(message) {
    clearTimeout(this.#timer);
    this.#timer = null;
    const rest = this.#message?.message_id === message.message_id ? plain(this.#unsaid(message)) : '';
    this.#message = null;
    if (rest) this.say(rest);
    const ends = {
      done: 'Answer complete.',
      aborted: 'Stopped.',
      failed: `The answer failed. ${message.error?.message ?? ''}`,
    };
    this.say(ends[message.state] ?? '');
  }
}

/** Without the marks of Markdown, which are noise to the ear. */
const plain = (text) =>
  text
    .replace(/[#*_`>|~]+/g, ' ')
    .replace(/\s+/g, ' ')
    .trim();
