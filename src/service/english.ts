/** The texts in English, by what they are in Chinese. */
export const english: Record<string, string> = {
  '启动前的暂停仍然有效，到 {0} 为止：不同步，继续监控':
    'the pause from before this start is still on, until {0}: nothing is sent, and the source is watched',
  '已按要求暂停同步，到 {0} 为止，继续监控': 'paused as asked, until {0}: nothing is sent, and the source is watched',
  已到期: 'has come to its end',
  已按要求结束: 'was ended as asked',
  '暂停{0}，继续同步': 'the pause {0}: mirroring goes on',
  时长无效: 'this is no valid duration',
  '暂停已被结束或更改，而之前开始的同步可能仍在进行':
    'the pause was ended or changed, and a sync that was begun before may still run',
  '服务正在停止，之前开始的同步尚未结束': 'the service is stopping, and a sync that was begun before has not ended',
  '（无法保存在 SSH_DIR 中：服务重启后就不再暂停）':
    ' (this could not be saved in SSH_DIR: a restart of the service ends the pause)',
  '已暂停同步，到 {0} 为止；没有同步在进行，变化继续累积{1}':
    'paused until {0}; no sync is under way, and changes wait{1}',
  '没有暂停：可能从未开始，或已到期': 'there is no pause: it was never begun, or has come to its end',
  '已结束自 {0} 起的暂停，继续同步': 'the pause since {0} is ended, and mirroring goes on',
  暂停期间没有同步: 'nothing was sent, because of a pause',
  '{0}。--accept-deletions、--sync、--pause 和 --resume 不可用，镜像不受影响。请检查目录和权限，或更改 STATUS_FILE':
    '{0}. --accept-deletions, --sync, --pause and --resume will not work; the mirror is not affected. Check the directory and its permissions, or change STATUS_FILE',
  '用法错误: --pause 的时长应大于 0；要结束暂停，请执行 rsync-inotify --resume':
    'usage error: the duration of --pause must be more than 0; to end a pause, run rsync-inotify --resume',
  '已不再开始新的同步，等待正在进行的同步结束...': 'no new sync is begun; waiting for the one under way to end...',
  '--{0} 之后应只有一个时长': '--{0} takes one duration at most',
  '--{0} 之后不应有其他内容': '--{0} takes nothing after it',
  '{0}。重启后将不记得源目录、挂载点、被暂缓的删除和暂停':
    '{0}. After a restart, the source, its mounts, held deletions and a pause will not be remembered',
  '暂停应已结束，却仍未继续同步，请执行 rsync-inotify --resume:':
    'the pause should have ended, and nothing is sent yet; run rsync-inotify --resume:',
  '健康: 已按要求暂停同步，到 {0} 为止，继续监控': 'healthy: paused as asked, until {0}; the source is watched',
  '自 {0} 起按要求暂停同步，到 {1} 为止；提前继续请执行 rsync-inotify --resume':
    'paused as asked since {0}, until {1}; to go on before that, run rsync-inotify --resume',
};
