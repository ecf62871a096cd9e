// What surrounds the chat: the panel of chats on narrow screens, light and dark.

const $ = (id) => document.getElementById(id);
const THEME = 'tailrace.theme';
const WIDE = matchMedia('(min-width: 52rem)');

export const sideIsOpen = () => $('side').classList.contains('open');

/** Close it and, if it was open, put the focus back where it was opened from. */
export function closeSide() {
  const was = sideIsOpen();
  show(false);
  if (was) $('open-side').focus();
}

function openSide() {
  show(true);
  $('close-side').focus();
}

/** What the panel covers cannot be reached while it is open. */
function show(open) {
  $('side').classList.toggle('open', open);
  $('shade').hidden = !open;
  $('open-side').setAttribute('aria-expanded', String(open));
  document.querySelector('main').inert = open;
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}

function changeTheme() {
  const theme = getComputedStyle(document.documentElement).colorScheme === 'dark' ? 'light' : 'dark';
  localStorage.setItem(THEME, theme);
  setTheme(theme);
}

export function wireShell() {
  setTheme(localStorage.getItem(THEME));
  $('theme').addEventListener('click', changeTheme);
  $('open-side').addEventListener('click', openSide);
  for (const id of ['close-side', 'shade', 'chats']) $(id).addEventListener('click', closeSide);
  WIDE.addEventListener('change', closeSide); // a turned phone: the panel is a column again
}
