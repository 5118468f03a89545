/**
 * Metrics for Prometheus, whose values are taken when they are asked for.
 *
 *   const registry = await registryOf([['Gauge', 'rsync_target_up', 'target', 'Whether it can be reached', () => [[1, { target }]]]]);
 *   await registry.metrics();
 */

export type Samples = [value: number | null, labels?: Record<string, string>][];
/** Kind, name, labels, meaning, values. */
export type Metric = ['Counter' | 'Gauge', string, string, string, () => Samples];

/** Defines metrics. The library is loaded only here: most have no use for it. */
export async function registryOf(metrics: readonly Metric[]) {
  const prometheus = await import('prom-client');
  const registry = new prometheus.Registry();
  const registers = [registry];
  for (const [kind, name, labels, help, collect] of metrics) {
    new prometheus[kind]({
      ...{ name, help, registers, labelNames: labels.split(' ').filter(Boolean) },
      collect() {
        this.reset();
        if (!labels) this.remove(); // it would be 0 where it is not known
        for (const [value, sample = {}] of collect()) if (value !== null) this.inc(sample, value);
      },
    });
  }
  return registry;
}
