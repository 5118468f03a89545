/**
 * Every option of rsync 3.5, as its sending side might get it while a restore is allowed, what becomes of it at the door, and why: it was
 * looked at for what it lets out beside what is in the directory, and for what it changes. Behind `|` and spaces stand other names.
 */
export type SenderVerdict = 'let in' | 'refused';

const LOCAL = 'a client never sends it to a sender, or sends what it stands for';
const ATTRIBUTES = 'says what of a file is told';
const HOW = 'says how something is transferred';
const UNUSED = 'no restore makes use of it';
const RECEIVES = 'is the receiver’s affair';
const READS = 'names a file to be read';
const WRITES = 'names a file to be written';
const LINKS = 'follows links, whose ends are elsewhere';
const SERVES = 'makes another service of it';

export const SENDER_VERDICTS: [option: string, verdict: SenderVerdict, why: string][] = [
  ['-v', 'let in', 'names only'],
  ['--info=ALL4', 'let in', 'names and numbers'],
  ['-q', 'let in', 'says less'],
  ['--msgs2stderr|--no-msgs2stderr', 'let in', 'where messages go'],
  ['-n', 'let in', 'sends no content'],
  ['-l', 'let in', 'tells where links lead, and follows none'],
  ['-d', 'let in', HOW],
  ['-r', 'let in', HOW],
  ['-W', 'let in', 'sends whole files'],
  ['-H', 'let in', ATTRIBUTES],
  ['-o', 'let in', ATTRIBUTES],
  ['-g', 'let in', ATTRIBUTES],
  ['-D', 'let in', 'tells numbers of devices, and opens none'],
  ['--specials|--no-specials', 'let in', ATTRIBUTES],
  ['-t', 'let in', ATTRIBUTES],
  ['-U', 'let in', ATTRIBUTES],
  ['-N', 'let in', ATTRIBUTES],
  ['-p', 'let in', ATTRIBUTES],
  ['-A', 'let in', ATTRIBUTES],
  ['-X', 'let in', 'tells values, which the source has sent'],
  ['-c', 'let in', 'tells checksums of what may be read'],
  ['-I', 'let in', HOW],
  ['-S', 'let in', HOW],
  ['-z', 'let in', HOW],
  ['-R', 'let in', 'sends the directories on the way, which lie in the same directory'],
  ['-e.iLsfxCIvu', 'let in', 'flags of the protocol'],
  ['--numeric-ids', 'let in', 'tells no names of users'],
  ['--fake-super', 'let in', 'reads owners from attributes'],
  ['--munge-links', 'let in', 'makes links usable again'],
  ['--open-noatime', 'let in', 'leaves no trace in the times of files'],
  ['--bwlimit=1', 'let in', HOW],
  ['--timeout=1', 'let in', 'ends sooner'],
  ['--compress-choice=zstd|--compress-level=9 --compress-threads=2 --new-compress --old-compress', 'let in', HOW],
  ['--skip-compress=x', 'let in', HOW],
  ['--checksum-choice=md5|--checksum-seed=1', 'let in', HOW],
  ['--max-alloc=0', 'let in', 'bounds a single allocation'],
  ['--iconv=UTF-8', 'let in', 'names are looked up as the converters of the C library have them, behind the fence'],
  ['--use-qsort', 'let in', 'rsync 3.5.0 sends it'],
  ['-L|--copy-links -k --copy-dirlinks --copy-unsafe-links', 'refused', LINKS],
  [
    '-K|--keep-dirlinks --insecure-links --no-insecure-links --no-implied-dirs --implied-dirs --i-d --no-i-d',
    'refused',
    LINKS,
  ],
  ['--remove-source-files|--remove-sent-files', 'refused', 'would delete what it has sent'],
  ['--copy-devices', 'refused', 'would read devices'],
  ['--write-devices|--no-write-devices', 'refused', RECEIVES],
  ['--confine-root=/', 'refused', 'would choose what rsync confines itself to'],
  ['--copy-as=root', 'refused', 'would choose whose rights rsync has'],
  [
    '--files-from=-|--files-from=x',
    'refused',
    'names that come over the connection are not seen at the door; others are in a file',
  ],
  [
    '--from0|-0 --no-from0 --ignore-missing-args --delete-missing-args',
    'refused',
    'means something with --files-from only',
  ],
  ['--exclude-from=x|--include-from=x -f. --filter=. -F', 'refused', READS],
  ['-C|--cvs-exclude', 'refused', 'with old protocols reads $HOME/.cvsignore as rules'],
  ['--exclude=x|--include=x', 'refused', LOCAL],
  ['--read-batch=x|--password-file=x --early-input=x', 'refused', READS],
  ['--write-batch=x|--only-write-batch=X --log-file=x', 'refused', WRITES],
  ['-Tx|--temp-dir=x --partial-dir=x --backup-dir=x --compare-dest=x --copy-dest=x --link-dest=x', 'refused', RECEIVES],
  [
    '-s|--secluded-args --protect-args --no-secluded-args --no-protect-args --no-s',
    'refused',
    'hides words from the door',
  ],
  ['-M--sender|--remote-option', 'refused', 'a client sends its value'],
  ['-e/bin/sh|--rsh=x --rsync-path=x', 'refused', 'would be a command'],
  ['--sender', 'refused', 'stands second'],
  ['--server', 'refused', 'stands first'],
  ['--daemon|--config=x --dparam=x --detach --no-detach', 'refused', SERVES],
  ['--trust-sender', 'refused', LOCAL],
  ['--list-only', 'refused', UNUSED],
  ['-x|--one-file-system --no-one-file-system --no-x', 'refused', UNUSED],
  ['-B1|--block-size=1', 'refused', UNUSED],
  ['--debug=ALL4', 'refused', UNUSED],
  ['--inplace|--no-inplace --append --append-verify --no-append --preallocate --fsync', 'refused', RECEIVES],
  [
    '-u|--update --existing --ignore-non-existing --ignore-existing --size-only --modify-window=1 -@-1',
    'refused',
    RECEIVES,
  ],
  [
    '--max-size=1|--min-size=1 --max-delete=1 --force --no-force --ignore-errors --no-ignore-errors',
    'refused',
    RECEIVES,
  ],
  [
    '--delete|--del --delete-before --delete-during --delete-delay --delete-after --delete-excluded',
    'refused',
    RECEIVES,
  ],
  ['-m|--prune-empty-dirs --no-prune-empty-dirs --no-m -y --fuzzy --no-fuzzy --no-y', 'refused', RECEIVES],
  ['-b|--backup --no-backup --suffix=~ --partial --no-partial --delay-updates --no-delay-updates', 'refused', RECEIVES],
  ['--usermap=*:0|--groupmap=*:0 --chown=0:0 --chmod=u+s --super --no-super --mkpath --no-mkpath', 'refused', RECEIVES],
  [
    '-E|--executability -O --omit-dir-times --no-omit-dir-times --no-O -J --omit-link-times --no-omit-link-times --no-J',
    'refused',
    RECEIVES,
  ],
  [
    '--log-format=%i|--out-format=%n --log-file-format=x -i --itemize-changes --no-itemize-changes --no-i --stats',
    'refused',
    LOCAL,
  ],
  [
    '--verbose|--no-verbose --no-v --stderr=all --quiet --motd --no-motd -h --human-readable --no-human-readable --no-h --help',
    'refused',
    LOCAL,
  ],
  ['--dry-run|-a --archive --no-OPTION --recursive --no-recursive --no-r', 'refused', LOCAL],
  ['--inc-recursive|--no-inc-recursive --i-r --no-i-r --dirs --no-dirs --no-d --old-dirs --old-d', 'refused', LOCAL],
  [
    '--perms|--no-perms --no-p --acls --no-acls --no-A --xattrs --no-xattrs --no-X --times --no-times --no-t',
    'refused',
    LOCAL,
  ],
  [
    '--atimes|--no-atimes --no-U --crtimes --no-crtimes --no-N --owner --no-owner --no-o --group --no-group --no-g',
    'refused',
    LOCAL,
  ],
  [
    '--no-numeric-ids|--no-open-noatime --no-D --devices --no-devices --drop-D --no-drop-D --links --no-links --no-l',
    'refused',
    LOCAL,
  ],
  [
    '--safe-links|--no-munge-links --hard-links --no-hard-links --no-H --relative --no-relative --no-R',
    'refused',
    LOCAL,
  ],
  [
    '--ignore-times|--checksum --no-checksum --no-c --cc --sparse --no-sparse --no-S --whole-file --no-whole-file --no-W',
    'refused',
    LOCAL,
  ],
  [
    '--compress|--no-compress --no-z --zc --zl --zt -P --progress --no-progress --outbuf=L --no-bwlimit --no-timeout',
    'refused',
    LOCAL,
  ],
  [
    '--contimeout=1|--no-contimeout --stop-after=1 --time-limit --stop-at=1:00 --no-iconv --old-args --no-old-args --qsort',
    'refused',
    LOCAL,
  ],
  [
    '--address=x|--port=1 --sockopts=x --blocking-io --no-blocking-io -4 --ipv4 -6 --ipv6 --protocol=20',
    'refused',
    LOCAL,
  ],
  ['-8|--8-bit-output --no-8-bit-output --no-8 -V --version', 'refused', LOCAL],
];
