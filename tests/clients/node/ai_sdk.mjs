// Drives the AI SDK as an application would: chats and useChat components, opened and used by commands on stdin.
// One JSON command a line in, one JSON answer a line out; what the packages do by themselves is not touched.
import { createInterface } from 'node:readline';
import { JSDOM } from 'jsdom';

const dom = new JSDOM('<div id="root"></div>', { url: 'http://localhost/', pretendToBeVisual: true });
globalThis.window = dom.window;
globalThis.document = dom.window.document;
globalThis.Event = dom.window.Event;
// A page has one AbortSignal; here jsdom knows its own, and fetch Node's.
const listen = document.addEventListener.bind(document);
document.addEventListener = (type, listener, options) => {
  const { signal, ...rest } = typeof options === 'object' ? options : { capture: options };
  listen(type, listener, rest);
  signal?.addEventListener('abort', () => document.removeEventListener(type, listener, rest));
};

const React = await import('react');
const { createRoot } = await import('react-dom/client');
const { WorkflowChatTransport } = await import('@ai-sdk/workflow/client');
const { resumableFetch } = await import('../../../gateway/static/tailrace.js');
const VERSIONS = {
  7: { ...(await import('ai')), ...(await import('@ai-sdk/react')) },
  6: { ...(await import('ai6')), ...(await import('ai-react6')) },
};

const unhandled = [];
process.on('unhandledRejection', error => unhandled.push(`rejection: ${error}`));
process.on('uncaughtException', error => unhandled.push(`exception: ${error}`));
// WorkflowChatTransport reports every cut here, and React its warnings.
console.error = (...words) => process.stderr.write(`${words.join(' ')}\n`);
console.warn = console.error;

const open = new Map();

// Chromium's words for a lost connection: by these, unlike by Node's, the packages know one.
const chromiumFetch = traffic => async (input, init) => {
  traffic.asked += 1;
  const response = await fetch(input, init)
    .catch(() => { throw new TypeError('Failed to fetch'); })
    .finally(() => (traffic.answered += 1));
  const reader = response.body?.getReader();
  const pull = async body => {
    const { done, value } = await reader.read().catch(() => { throw new TypeError('network error'); });
    return done ? body.close() : body.enqueue(value);
  };
  return new Response(reader && new ReadableStream({ pull, cancel: reason => reader.cancel(reason) }), response);
};

function options(command, seen) {
  const sdk = VERSIONS[command.version];
  const api = command.api;
  const workflow = {
    api,
    prepareSendMessagesRequest: command.workflowId
      ? ({ id, messages, body }) => ({ body: { id, messages, ...body } })
      : undefined,
    initialStartIndex: command.initialStartIndex,
    maxConsecutiveErrors: command.maxConsecutiveErrors,
  };
  return {
    id: command.id,
    messages: command.messages ?? [],
    transport: command.workflow
      ? new WorkflowChatTransport(workflow)
      : new sdk.DefaultChatTransport({
          api,
          body: command.body,
          fetch: command.mending ? resumableFetch() : command.chromium ? chromiumFetch(seen.traffic) : undefined,
          prepareSendMessagesRequest: command.lastMessageOnly
            ? ({ id, messages, trigger, messageId }) => ({ body: { id, trigger, messageId, message: messages.at(-1) } })
            : undefined,
        }),
    onError: error => seen.push({ error: `${error.name}: ${error.message}` }),
    onFinish: ({ isAbort, isError, finishReason, messages }) => {
      seen.push({ finish: { isAbort, isError, finishReason } });
      seen.told = messages;
    },
    onToolCall: ({ toolCall }) => void seen.push({ toolCall: toolCall.toolCallId }),
    onData: part => seen.push({ data: part.type }),
    sendAutomaticallyWhen: command.automatic ? sdk.lastAssistantMessageIsCompleteWithToolCalls : undefined,
  };
}

function mount(command, seen) {
  const { useChat, Chat } = VERSIONS[command.version];
  const made = options(command, seen);
  const given = { ...(command.ownChat ? { chat: new Chat(made) } : made), resume: command.resume ?? false };
  const page = { chat: undefined, mounted: false };
  function Page() {
    page.chat = useChat(given);
    // StrictMode mounts, unmounts and mounts again: what is sent before that is over is aborted by the client.
    React.useEffect(() => void (page.mounted = true), []);
    return React.createElement('p', null, page.chat.status);
  }
  const place = document.createElement('div');
  document.body.append(place);
  const root = createRoot(place);
  root.render(React.createElement(React.StrictMode, null, React.createElement(Page)));
  return { get chat() { return page.mounted ? page.chat : undefined; }, close: () => root.unmount() };
}

const DO = {
  open: c => void open.set(c.as, entry(c)),
  send: c => chat(c).sendMessage(...c.args),
  regenerate: c => chat(c).regenerate(...(c.args ?? [])),
  resume: c => chat(c).resumeStream(),
  stop: c => chat(c).stop(),
  toolOutput: c => chat(c).addToolOutput(...c.args),
  state,
  until,
  visible: () => void document.dispatchEvent(new dom.window.Event('visibilitychange')),
  close: c => { open.get(c.as).close?.(); open.delete(c.as); },
  unhandled: () => unhandled.splice(0),
};

function entry(command) {
  const seen = Object.assign([], { traffic: { asked: 0, answered: 0 } });
  if (!command.hook) return { seen, chat: new VERSIONS[command.version].Chat(options(command, seen)) };
  const page = mount(command, seen);
  return { seen, get chat() { return page.chat; }, close: page.close };
}

function chat(command) {
  return open.get(command.as).chat;
}

function state(command) {
  const { chat, seen } = open.get(command.as);
  if (!chat) return { status: 'mounting', messages: [], seen };
  return { status: chat.status, messages: chat.messages, error: chat.error && String(chat.error), seen, traffic: seen.traffic };
}

function answer(messages) {
  const last = messages.at(-1)?.role === 'assistant' ? messages.at(-1) : { parts: [] };
  return last.parts.map(part => (part.type === 'text' ? part.text : '')).join('');
}

// A component is told of an answer's end before it is rendered with it, and it is "ready" before the answer as well.
function rendered(now) {
  const told = now.seen.told ?? [];
  return now.messages.length >= told.length && answer(now.messages).length >= answer(told).length;
}

// Waits until the chat has a status, so much text in its last answer, and so many answers behind it.
async function until(command) {
  const end = Date.now() + 15000;
  for (;;) {
    const now = state(command);
    const text = answer(now.messages);
    const finished = now.seen.filter(what => what.finish).length;
    if (
      (!command.status || now.status === command.status) &&
      text.length >= (command.text ?? 0) &&
      finished >= (command.finished ?? 0) &&
      (!command.finished || rendered(now)) &&
      (!command.asked || (now.traffic.asked >= command.asked && now.traffic.asked === now.traffic.answered))
    ) {
      return now;
    }
    if (Date.now() > end) throw new Error(`not reached: ${JSON.stringify(now)}`);
    await new Promise(resolve => setTimeout(resolve, 5));
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  // Not awaited: a chat is told to stop while it is still sending.
  Promise.resolve()
    .then(() => DO[command.do](command))
    .then(value => ({ value }), error => ({ failed: String(error?.stack ?? error) }))
    .then(answer => process.stdout.write(`${JSON.stringify({ n: command.n, ...answer })}\n`));
}
process.exit(0);
