/**
 * What the binary of start-sshd begins with. sshd starts it for each session: whatever that does not need, which is all of the service, is
 * loaded only where the service is to run.
 *
 *   start-sshd --forced-command SHA256:… # answered here
 *   start-sshd                           # scripts/start-sshd.ts
 */
import { answerSource } from './backup/forced-command.ts';

/** Answers the source, or becomes the service. */
async function begin(): Promise<void> {
  if (await answerSource(process.argv.slice(2))) return;
  const { start } = await import('../scripts/start-sshd.ts');
  start();
}

begin().catch((cause) => {
  console.error(cause);
  process.exitCode = 1;
});
