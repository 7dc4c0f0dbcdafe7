// Reads the metrics of the router, and what their histograms say of the time between two scrapes.

/** Returns the samples of metrics in Prometheus' text form: by name, a list of `{labels, value}`. */
export function parseMetrics(text) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*?)\})? (\S+)/.exec(line);
    if (!found) continue;
    const [, name, labels = "", value] = found;
    const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, text]) => [key, text]);
    if (!samples.has(name)) samples.set(name, []);
    samples.get(name).push({ labels: Object.fromEntries(pairs), value: value === "+Inf" ? Infinity : Number(value) });
  }
  return samples;
}

/** Returns the cumulative buckets of a histogram as `[limit, count]`, in order. */
export function bucketsOf(samples, name) {
  const buckets = (samples.get(`${name}_bucket`) ?? []).map(({ labels, value }) => [labels.le === "+Inf" ? Infinity : Number(labels.le), value]);
  return buckets.sort(([one], [other]) => one - other);
}

/** Returns the number of values between two scrapes. */
export const countBetween = (before, after) => (after.at(-1)?.[1] ?? 0) - (before.at(-1)?.[1] ?? 0);

/** Returns a quantile of the values between two scrapes, or null if there were none: the limit of its bucket. */
export function quantileBetween(before, after, quantile) {
  const earlier = new Map(before);
  // A bucket that was empty may be left out: it then holds as many as the one below it.
  let below = 0;
  const counts = after.map(([limit, value]) => {
    below = earlier.get(limit) ?? below;
    return [limit, value - below];
  });
  const all = counts.at(-1)?.[1] ?? 0;
  if (all <= 0) return null;
  const finite = counts.filter(([limit]) => Number.isFinite(limit));
  const found = finite.find(([, value]) => value >= quantile * all);
  return found ? found[0] : finite.at(-1)?.[0] ?? null;
}
