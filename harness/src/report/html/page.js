'use strict';
(() => {
  const all = [...document.querySelectorAll('details.one')];
  const search = document.getElementById('search');
  const shown = document.getElementById('shown');
  const texts = new Map();
  // The text without the pictures: what is searched.
  const text = (one) => {
    if (!texts.has(one)) {
      let words = one.querySelector('summary').textContent;
      for (const part of one.querySelectorAll('.in > p, .in > dl, .in > .wide, .in > .more, .in > pre')) words += ' ' + part.textContent;
      texts.set(one, words.toLowerCase());
    }
    return texts.get(one);
  };
  const chosen = new Set();
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const one of all) {
      const fits = (!chosen.size || chosen.has(one.classList[1])) && words.every((word) => text(one).includes(word));
      one.hidden = !fits;
      count += fits;
    }
    shown.textContent = count === all.length ? `${count} shown` : `${count} of ${all.length} shown`;
  };
  const kinds = [...new Set(all.map((one) => one.classList[1]))].sort();
  for (const kind of kinds.length > 1 ? kinds : []) {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = kind;
    button.setAttribute('aria-pressed', 'false');
    button.addEventListener('click', () => {
      const on = !chosen.delete(kind);
      if (on) chosen.add(kind);
      button.setAttribute('aria-pressed', String(on));
      apply();
    });
    document.getElementById('verdicts').append(button, ' ');
  }
  let timer = 0;
  search.addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(apply, 120);
  });
  document.getElementById('filter').hidden = false;
  apply();
  const reveal = () => {
    const one = document.getElementById(location.hash.slice(1));
    if (!one) return;
    if (one.matches('details')) {
      one.hidden = false;
      one.open = true;
      one.querySelector('summary').focus({ preventScroll: true });
    }
    one.scrollIntoView();
  };
  addEventListener('hashchange', reveal);
  if (location.hash) reveal();
  const move = (step) => {
    const list = all.filter((one) => !one.hidden);
    const now = list.indexOf(document.activeElement.closest('details.one'));
    const next = list[Math.min(list.length - 1, Math.max(0, now < 0 ? 0 : now + step))];
    if (next) {
      next.querySelector('summary').focus();
      next.scrollIntoView({ block: 'nearest' });
    }
  };
  addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === search) {
      if (event.key === 'Escape') {
        search.value = '';
        search.blur();
        apply();
      }
      return;
    }
    if (event.key === '/') {
      event.preventDefault();
      search.focus();
    } else if (event.key === 'j') move(1);
    else if (event.key === 'k') move(-1);
    else if (event.key === 'Escape') {
      for (const one of all) one.open = false;
    }
  });
  // On paper what is closed cannot be opened: what is not as expected is open.
  addEventListener('beforeprint', () => {
    for (const one of document.querySelectorAll('details.failed,details.errored,details.mended')) one.open = true;
  });
})();
