// One chat as the page holds it: its turns, what is sent to the model, and how both are read back from the server.

import { call, chatPath, messagePath } from './api.js';
import { Fold } from './tailrace.js';

/** The tool that the page itself offers, to show what a tool call looks like. */
export const TOOL = {
  type: 'function',
  function: {
    name: 'local_time',
    description: 'The time on the clock of the person who asks.',
    parameters: { type: 'object', properties: {} },
  },
};
export const runTool = () => ({
  time: new Date().toLocaleTimeString(),
  zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
});

export const newId = (prefix) =>
  `${prefix}_${[...crypto.getRandomValues(new Uint8Array(12))].map((n) => n.toString(16).padStart(2, '0')).join('')}`;

export const textOf = (message) =>
  message.parts
    .filter((part) => part.type === 'text')
    .map((part) => part.text)
    .join('');
export const isOver = (message) => !['queued', 'running'].includes(message.state);
export const openCalls = (message) =>
  isOver(message) ? message.parts.filter((part) => part.type === 'tool' && part.state === 'input-available') : [];

/** Turns -> Chat Completions messages. */
export function toMessages(turns) {
  return turns.flatMap((turn) => {
    if (turn.role === 'user') return [{ role: 'user', content: turn.text }];
    const calls = turn.message.parts.filter((part) => part.type === 'tool' && part.output !== undefined);
    const said = { role: 'assistant', content: textOf(turn.message) };
    if (calls.length) said.tool_calls = calls.map(toolCall);
    const outputs = calls.map((part) => ({
      role: 'tool',
      tool_call_id: part.tool_call_id,
      content: JSON.stringify(part.output),
    }));
    return said.content || calls.length ? [said, ...outputs] : [];
  });
}

const toolCall = (part) => ({
  id: part.tool_call_id,
  type: 'function',
  function: { name: part.tool_name, arguments: JSON.stringify(part.input ?? {}) },
});

const contentText = (content) =>
  typeof content === 'string' ? content : (content ?? []).map((part) => part.text ?? '').join('');

const parsed = (text) => {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
};

/** Chat Completions messages -> turns; `ids` are those of the answers among them, as far as they are known. */
function fromMessages(messages, ids) {
  const turns = [];
  for (const each of messages) {
    if (each.role === 'user') turns.push({ role: 'user', text: contentText(each.content) });
    if (each.role === 'tool') {
      const part = turns.at(-1)?.message?.parts.find((one) => one.tool_call_id === each.tool_call_id);
      if (part) Object.assign(part, { output: parsed(contentText(each.content)), state: 'output-available' });
    }
    if (each.role !== 'assistant') continue;
    const { message } = new Fold();
    const text = contentText(each.content);
    if (text) message.parts.push({ type: 'text', id: '0', text, state: 'done' });
    for (const {
      id,
      function: { name, arguments: input },
    } of each.tool_calls ?? []) {
      message.parts.push({
        type: 'tool',
        tool_call_id: id,
        tool_name: name,
        state: 'input-available',
        input: parsed(input),
      });
    }
    message.state = 'done';
    turns.push({
      role: 'assistant',
      id: ids?.[turns.filter((turn) => turn.role === 'assistant').length] ?? null,
      message,
    });
  }
  return turns;
}

/**
 * Read a chat back: {turns, cursor}, cursor being where the last answer's log was read up to.
 *
 * The conversation stands in the request of its latest message; that message itself is read as far as it has come.
 * Returns null if the server does not know the chat (any more).
 */
export async function readChat(chat, fallback) {
  const { last_message_id: known } = await call('GET', chatPath(chat));
  const id = known ?? fallback;
  if (!id) return null;
  const [request, view] = await Promise.all([
    call('GET', `${messagePath(chat, id)}/request`),
    call('GET', messagePath(chat, id)),
  ]);
  const turns = fromMessages(request.messages, request.metadata?.answers);
  const earlier = turns.filter((turn) => turn.role === 'assistant' && turn.id);
  // the request has what was said; the answers' own records have the reasoning and how they ended, while they are kept
  await Promise.all(
    earlier.slice(-8).map(async (turn) => {
      const old = await call('GET', messagePath(chat, turn.id)).catch(() => null);
      if (!old) return;
      for (const part of turn.message.parts) {
        const same = old.message.parts.find((one) => one.tool_call_id && one.tool_call_id === part.tool_call_id);
        if (same && part.output !== undefined) Object.assign(same, { output: part.output, state: part.state });
      }
      turn.message = old.message;
    }),
  );
  turns.push({ role: 'assistant', id, message: view.message });
  return { turns, cursor: view.cursor ?? undefined, title: request.metadata?.title };
}

/** Ask for an answer to `turns`; the same `id` again is the same answer. */
export function start(chat, id, turns, { title, tool, replace }) {
  const answers = turns.filter((turn) => turn.role === 'assistant').map((turn) => turn.id);
  const asked = turns.at(-1).role === 'user'; // after a tool's output the model is to speak
  const params = tool ? { tools: [TOOL], tool_choice: asked ? 'required' : 'auto' } : {};
  const body = { message_id: id, messages: toMessages(turns), params, metadata: { title, answers } };
  return call('POST', `${chatPath(chat)}/messages`, { ...body, ...(replace && { policy: 'replace' }) });
}

export const stop = (chat, id) => call('POST', `${messagePath(chat, id)}/stop`);
