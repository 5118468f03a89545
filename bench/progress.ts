/** Says on standard error what is going on, with the seconds since the start. */
export function tell(text: string): void {
  console.error(`${(performance.now() / 1000).toFixed(0).padStart(4)} s  ${text}`);
}
