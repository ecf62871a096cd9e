// What surrounds the chat: the panel of chats on narrow screens, light and dark.

const $ = (id) => document.getElementById(id);
const THEME = 'tailrace.theme';

export const sideIsOpen = () => $('side').classList.contains('open');

export function closeSide() {
  $('side').classList.remove('open');
  $('shade').hidden = true;
  $('open-side').setAttribute('aria-expanded', 'false');
}

/** Close it and put the focus back where it was opened from. */
export function leaveSide() {
  closeSide();
  $('open-side').focus();
}

function openSide() {
  $('side').classList.add('open');
  $('shade').hidden = false;
  $('open-side').setAttribute('aria-expanded', 'true');
  $('close-side').focus();
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
  $('close-side').addEventListener('click', leaveSide);
  $('shade').addEventListener('click', closeSide);
}
