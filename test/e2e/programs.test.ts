/** What programs do in a mirrored tree, each in its own way: the backup is the same after every step of theirs. */
import { Database } from 'bun:sqlite';
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { Pair } from '../pair.ts';
import { answerOf, cleanEnv, eventually, type Program } from '../processes.ts';
import { expectEqual } from '../tree.ts';

setDefaultTimeout(180_000);

/** Where some of them are, which the PATH of an ordinary user does not have. */
const PATH = [process.env.PATH, '/usr/local/sbin', '/usr/sbin', '/sbin'].join(delimiter);
const EDITOR = ['vim', 'vim.tiny'].find((name) => Bun.which(name, { PATH })) ?? 'vim';

/** What one kind of programs does, in steps of sh within the source; `$AWAY` is a directory beside it. */
interface Work {
  name: string;
  /** The programs that not every machine has. */
  needs?: string[];
  steps: string[];
}

const WORKS: Work[] = [
  {
    name: 'git',
    needs: ['git'],
    steps: [
      `git init -q -b main project; cd project; mkdir -p src/deep
       for n in 1 2 3 4 5 6 7 8; do echo $n > src/deep/$n; git add .; git commit -qm $n; done`,
      `cd project; git checkout -qb other HEAD~4; git rm -qr src/deep/1; echo other > src/other; git add .; git commit -qm other`,
      'cd project; git checkout -q main; git checkout -q other; git checkout -q main',
      'cd project; git checkout -q other; git rebase -q main',
      'cd project; git worktree add -q ../tree main; echo tree > ../tree/src/tree; git worktree remove --force ../tree',
      'git clone -q project clone; cd clone; git checkout -q other; git reset -q --hard HEAD~2; git clean -qfdx',
      'cd project; git stash -q || true; git gc -q --prune=now; git repack -qad; git pack-refs --all',
      'cd clone; git fetch -q; git merge -q origin/other; git fsck --strict >/dev/null; cd ..; rm -rf project',
    ],
  },
  {
    name: 'npm',
    needs: ['npm'],
    steps: [
      `mkdir -p local/lib app; for n in 1 2 3 4 5; do echo "exports.n = $n" > local/lib/$n.js; done
       echo '{"name":"local","version":"1.0.0","bin":{"local":"lib/1.js"}}' > local/package.json
       cd app; npm init -y >/dev/null; npm install ../local >/dev/null`,
      `(cd local; npm pack --pack-destination .. >/dev/null 2>&1); cd app; npm install ../local-1.0.0.tgz >/dev/null`,
      'cd app; npm ci >/dev/null; node -e "require(\'local/lib/3.js\')"',
    ],
  },
  {
    name: 'tar',
    steps: [
      `mkdir -p "$AWAY/tree/sub"; cd "$AWAY/tree"; echo one > one; ln one sub/hard; ln -s ../one sub/soft; chmod 600 one
       truncate -s 5M sparse; echo end >> sparse; mkdir -m 555 locked; tar -cSf ../tree.tar .`,
      'mkdir unpacked; tar -xf "$AWAY/tree.tar" -C unpacked',
      'tar -xf "$AWAY/tree.tar" -C unpacked --overwrite; tar -xf "$AWAY/tree.tar" -C unpacked --recursive-unlink; chmod 755 unpacked/locked',
      'echo more >> unpacked/sub/hard; tar -czf unpacked.tgz --remove-files unpacked',
    ],
  },
  {
    name: 'vim',
    needs: [EDITOR],
    steps: ['backupcopy=yes backup', 'backupcopy=no backup', 'backupcopy=yes nowb nobk', 'backupcopy=no nowb nobk'].map(
      (options) =>
        `seq 2000 > text; ln -sf text link; for file in text text link; do
           ${EDITOR} --not-a-term -Nu NONE -i NONE -T dumb -c 'set swapfile updatecount=1 writebackup ${options}' \\
             -c 's/^/changed /' -c 'preserve' -c 'wq' $file >/dev/null </dev/null; done; head -n 1 text | grep -q changed`,
    ),
  },
  {
    name: 'sed, patch and the like',
    needs: ['patch'],
    steps: [
      'mkdir conf; for n in 1 2 3; do seq 100 > conf/$n; done; chmod 640 conf/2; sed -i s/5/five/ conf/*; sed -i.bak s/6/six/ conf/1',
      `cp conf/3 three; sed s/7/seven/ three > "$AWAY/three"; diff -u three "$AWAY/three" > three.diff || true
       patch -s -b three three.diff; patch -sR three three.diff`,
      'install -D -m 755 conf/1 bin/tool; install -m 700 conf/2 bin/tool; install -C conf/3 bin/tool',
      'mkdir releases releases/1 releases/2; for n in 1 2 1 2; do ln -sfn releases/$n current; done; ln -s releases/1 next; mv -T next current',
      'for n in 1 2 3 4 5 6 7 8 9; do seq $n 3000 > dump.sql.tmp; mv dump.sql.tmp dump.sql; sleep 0.1; done',
      'cp -a --reflink=auto conf copy; cp -al conf links; cp -a --backup=numbered conf/1 copy/1; shuf -o conf/1 conf/1',
      'truncate -s 1M disk; dd if=/dev/urandom of=disk bs=4k seek=3 count=2 conv=notrunc status=none; fallocate -p -o 0 -l 8k disk || true',
    ],
  },
  {
    name: 'mkdir, rm and find',
    steps: [
      'mkdir -p a/b/c/d/e/f/g/h a/x/y/z; for n in 1 2 3 4 5 6 7; do echo $n > a/b/c/d/e/$n; echo $n > a/x/y/z/$n; done',
      'rm -rf a; mkdir -p a/b/c/d/e/f; echo again > a/b/c/d/e/f/again; mkdir -p "$AWAY/a"; mv a/b "$AWAY/a"; mv "$AWAY/a/b" a/c',
      'for n in 1 2 3; do mkdir -p many/$n/deep; touch many/$n/deep/1 many/$n/old; done; find many -name old -delete; rm many/2/deep/1; find many -type d -empty -delete',
      'find a many -delete',
    ],
  },
  {
    name: 'rsync into the source',
    steps: [
      'mkdir -p "$AWAY/site/deep"; for n in 1 2 3 4 5 6 7 8; do seq $n 20000 > "$AWAY/site/deep/$n"; done; rsync -a "$AWAY/site/" site',
      'seq 3 20001 > "$AWAY/site/deep/3"; rsync -a --inplace --no-whole-file "$AWAY/site/" site; rm "$AWAY/site/deep/1"',
      'for n in 2 4 6; do seq $n 9 20002 > "$AWAY/site/deep/$n"; done; rsync -a --delay-updates --delete-delay "$AWAY/site/" site',
      'seq 5 > "$AWAY/site/deep/5"; rsync -ab --suffix=.old --partial-dir=.partial --delete "$AWAY/site/" site; rsync -a --existing --append "$AWAY/site/" site',
    ],
  },
  {
    name: 'zip and unzip',
    needs: ['zip', 'unzip'],
    steps: [
      'mkdir -p paper/sub; seq 999 > paper/sub/1; seq 99 > paper/2; zip -qr paper.zip paper; rm -r paper; unzip -q paper.zip',
      'seq 9 > paper/2; zip -qr paper.zip paper; zip -qd paper.zip paper/sub/1; unzip -qo paper.zip; zip -qm paper.zip paper/2',
    ],
  },
  {
    name: 'logrotate',
    needs: ['logrotate'],
    steps: ['create 640', 'copytruncate', 'copy', 'compress', 'dateext', 'olddir old'].map(
      (way) =>
        `mkdir -p log/old; chmod 755 log log/old; printf '%s\\n' "$PWD/log/service.log {" 'rotate 3' '${way}' '}' > "$AWAY/conf"
         seq 5000 >> log/service.log; logrotate -f -s "$AWAY/state" "$AWAY/conf"; echo more >> log/service.log`,
    ),
  },
];

/** A pair that mirrors an empty source under the default options, and what does a step of sh in that source. */
async function mirrored() {
  const pair = await Pair.withKeys('programs');
  mkdirSync(pair.path('away'));
  const { source } = await pair.run({ SYNC_INTERVAL: '0.2', FULL_SYNC_INTERVAL: '0' });
  const user = { GIT_AUTHOR_NAME: 'a', GIT_AUTHOR_EMAIL: 'a@b', GIT_COMMITTER_NAME: 'a', GIT_COMMITTER_EMAIL: 'a@b' };
  const alone = { npm_config_offline: 'true', npm_config_audit: 'false', npm_config_update_notifier: 'false' };
  const env = { ...cleanEnv(), PATH, ...user, ...alone, HOME: pair.path('away'), AWAY: pair.path('away') };
  const run = async (step: string) => {
    const { status, stdout, stderr } = await answerOf(spawn('sh', ['-ec', step], { cwd: pair.path('source'), env }));
    if (status !== 0) throw new Error(`${step}\nended with ${status}\n${stdout}${stderr}`);
  };
  return { pair, source, run, [Symbol.asyncDispose]: () => pair[Symbol.asyncDispose]() };
}

/** No sync may have failed: what programs do is no reason. */
const failuresOf = (source: Program) =>
  source.lines.filter((line) => /失败|无法/.test(line) && !line.includes('变化频繁：')); // that speaks of failures in general

const missingOf = ({ needs = [] }: Work) => needs.filter((name) => !Bun.which(name, { PATH }));

describe.concurrent('the backup is the same after each step of', () => {
  for (const work of WORKS) {
    const missing = missingOf(work);
    if (missing.length > 0)
      console.warn(`SKIPPED: ${work.name}, for ${missing} is not here (sh setup.sh --with-test-tools installs it)`);
    test.skipIf(missing.length > 0)(work.name, async () => {
      await using bed = await mirrored();
      for (const step of work.steps) {
        await bed.run(step);
        await bed.pair.isMirrored().catch((cause) => {
          throw new Error(`after ${step}: ${cause}`);
        });
      }
      expect(failuresOf(bed.source)).toEqual([]);
    });
  }
});

/** A database that is written, and how many rows it has then. */
function fill(database: Database, rows: number): void {
  using insert = database.prepare('insert into rows (words) values (?)'); // or the database would stay open after its end
  for (let batch = 0; batch < 5; batch++)
    database.transaction(() => {
      for (let row = 0; row < rows / 5; row++) insert.run('word '.repeat(row % 500));
    })();
}

/** What SQLite says of a database in the backup, asked of a copy: a look at it may change it. */
function judge(pair: Pair): { integrity_check: string; rows: number } {
  const copy = pair.path('copy');
  rmSync(copy, { recursive: true, force: true });
  cpSync(pair.path('backup'), copy, { recursive: true });
  using database = new Database(join(copy, 'data.db'));
  const one = (sql: string) => database.query(sql).get();
  return Object.assign({}, one('pragma integrity_check'), one('select count(*) as rows from rows')) as never;
}

describe.concurrent('a database of SQLite that stays open', () => {
  test.each(['delete', 'truncate', 'persist', 'wal'])(
    'is good on the backup when it is quiet, with journal_mode %s',
    async (mode) => {
      await using bed = await mirrored();
      const { pair } = bed;
      using database = new Database(pair.path('source', 'data.db'));
      database.run(`pragma journal_mode = ${mode}`);
      database.run('create table rows (id integer primary key, words text)');
      // the index of a write-ahead log is a memory map, whose changes are no events; it is made anew from the log
      const isMirrored = () =>
        eventually(() => expectEqual(pair.path('source'), pair.path('backup'), ['--exclude=*-shm']));
      for (const work of [
        () => fill(database, 1000),
        () => database.run('delete from rows where id % 3 = 0'),
        () => database.run(mode === 'wal' ? 'pragma wal_checkpoint(truncate)' : 'vacuum'),
        () => fill(database, 500),
      ]) {
        work();
        await isMirrored();
        using count = database.prepare('select count(*) as rows from rows');
        const { rows } = count.get() as { rows: number };
        expect(judge(pair)).toEqual({ integrity_check: 'ok', rows });
      }
      database.close(true); // whoever closes it last removes the log and its index
      await pair.isMirrored();
      expect(failuresOf(bed.source)).toEqual([]);
    },
  );
});
