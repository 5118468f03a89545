/**
 * The texts for people in English, by what they are in Chinese where they are used: `{0}`, `{1}` … are the values. It is read with
 * LOG_LANG=en alone.
 */
export const english: Record<string, string> = {
  // scripts/rsync-inotify.ts
  '配置 SSH 密钥（自动化）': 'Setting up the SSH key (automatic)',
  '共享公钥到备份服务器...': 'Sharing the public key with the backup...',
  '公钥已共享 ✓': 'Public key shared ✓',
  'SSH 密钥已存在 ✓': 'SSH key exists ✓',
  '生成 SSH 密钥对...': 'Generating an SSH key pair...',
  'SSH 密钥生成完成 ✓': 'SSH key generated ✓',
  '无法生成 SSH 密钥对 {0}：{1}。请检查 SSH_DIR 的权限和磁盘空间':
    'Cannot generate the SSH key pair {0}: {1}. Check the permissions of SSH_DIR and the disk space',
  '等待 SSH 服务就绪': 'Waiting for the SSH service',
  '目标主机: {0}:{1}': 'Target host: {0}:{1}',
  '{0}:{1} 在 {2} 秒内没有应答': '{0}:{1} has not answered within {2} s',
  'SSH 服务未就绪: {0}。请检查备份端是否运行、主机名和端口是否正确':
    'The SSH service is not ready: {0}. Check that the backup is running and that the host name and port are right',
  'SSH 连接重试... ({0}/{1})': 'Trying SSH again... ({0}/{1})',
  'SSH 服务已就绪 ✓': 'SSH service is ready ✓',
  '测试 SSH 连接': 'Testing the SSH connection',
  'SSH 免密登录测试失败 (退出码: {0})：{1}。请检查密钥、用户和备份端日志':
    'The test of the SSH login failed (exit code: {0}): {1}. Check the key, the user and the log of the backup',
  'SSH 连接重试... ({0}/{1})：{2}': 'Trying SSH again... ({0}/{1}): {2}',
  'SSH 免密登录测试成功 ✓': 'Test of the SSH login passed ✓',
  '备份端没有在共享卷中公布主机密钥，未能验证它的身份，是否信任它由 SSH_OPTS 决定':
    'The backup has published no host keys on the shared volume, so its identity was not verified; whether it is trusted is decided by SSH_OPTS',
  '同步成功 (耗时: {0}秒) ✓': 'Sync succeeded (took {0} s) ✓',
  首次全量同步: 'First full sync',
  '首次全量同步完成 ✓': 'First full sync finished ✓',
  '首次全量同步未能传输全部文件，其余文件照常同步，失败的文件将自动重试':
    'The first full sync could not transfer all files. All others are mirrored as usual, and those that failed are tried again by themselves',
  首次全量同步失败: 'First full sync failed',
  实时监控已启动: 'Real-time watching has started',
  '监控目录: {0}': 'Watched directory: {0}',
  '批量同步间隔: {0}秒': 'Batch interval: {0} s',
  '监控事件: {0}': 'Watched events: {0}',
  'RSYNC_OPTS 含有不能逐个文件执行的选项 ({0})，每次变化都进行全量同步':
    'RSYNC_OPTS contain options that cannot be applied file by file ({0}): each change is mirrored by a full sync',
  '✓ 服务运行中，实时监控文件变化...': '✓ Service is running, watching for changes...',
  '触发定期全量同步...': 'Starting the regular full sync...',
  '触发批量同步...': 'Starting a batch sync...',
  '{0}。其他目标照常同步，此目标恢复后自动加入':
    '{0}. The other targets are mirrored as usual; this one joins by itself once it is back',
  '配置有效，所需程序齐全 ✓\n': 'Configuration is valid, required programs are present ✓\n',
  'Rsync + Inotify 自动化实时同步服务': 'Rsync + Inotify: automatic real-time sync',
  '版本: 自动化 v1.0': 'Version: automatic v1.0',
  '配置信息：': 'Configuration:',
  '  源目录: {0}': '  Source directory: {0}',
  '  目标主机: {0}': '  Target host: {0}',
  '  目标目录: {0}': '  Target directory: {0}',
  '  Rsync 选项: {0}': '  Rsync options: {0}',
  '  Rsync 选项 ({0}): {1}': '  Rsync options ({0}): {1}',
  '  同步间隔: {0}秒': '  Sync interval: {0} s',
  '  最大重试: {0}次': '  Maximum tries: {0}',

  // src/mirror/destinations.ts, daemon-settings.ts
  'rsync 守护进程应写作 rsync://[user@]host[:port]/module/dir，不用 host::module':
    'an rsync daemon is written as rsync://[user@]host[:port]/module/dir, not as host::module',
  'URL 中不能写密码：请写入文件，由 RSYNC_PASSWORD_FILE 指明':
    'a URL must hold no password: put it into a file, and name that in RSYNC_PASSWORD_FILE',
  '应为 rsync://[user@]host[:port]/module[/dir]，例如 rsync://backup@nas/mirror/web/':
    'should be rsync://[user@]host[:port]/module[/dir], for example rsync://backup@nas/mirror/web/',
  '{0}；IPv6 地址须加方括号': '{0}; IPv6 addresses need brackets',
  '{0}；端口应在 1 到 65535 之间': '{0}; the port should be between 1 and 65535',
  '{0}；缺少模块名，它是守护进程的 rsyncd.conf 中方括号里的名称':
    '{0}; the name of the module is missing, which stands in brackets in the rsyncd.conf of the daemon',
  '{0}；模块中的目录不能以 - 开头，守护进程会把它当作选项':
    '{0}; the directory in the module must not begin with -, for the daemon would take it for an option',
  '{0}；模块和目录不能包含通配符 *?[、反斜杠、控制字符，也不能有 . 或 .. 一级':
    '{0}; module and directory must not contain wild cards (*?[), backslashes, control characters, or . or .. as a part',
  '文件不存在；请建立它（只有一行密码，chmod 600），容器中还要挂载它':
    'there is no such file; make it (one line with the password, chmod 600), and mount it where this is a container',
  '当前用户不能读取它 ({0})；请 chown 给运行服务的用户并 chmod 600':
    'this user cannot read it ({0}); chown it to the user of the service, and chmod 600',
  '其他用户可以读写它，rsync 因此拒绝使用；请 chmod 600':
    'other users may read or write it, for which rsync refuses it; chmod 600',
  '它属于用户 {0}，以 root 运行的 rsync 只用属于 root 的；请 chown root':
    'it belongs to user {0}, and an rsync that runs as root takes only one of root; chown root',
  '文件中没有密码；请写入一行密码': 'there is no password in it; write one line with it',
  '不能包含 --port：rsync:// 目标的端口写在 URL 里，例如 rsync://nas:8730/mirror/':
    'must not hold --port: the port of an rsync:// target stands in its URL, rsync://nas:8730/mirror/ for example',
  'rsync:// 目标的密码文件请写入 RSYNC_PASSWORD_FILE':
    'the password file for rsync:// targets belongs in RSYNC_PASSWORD_FILE',

  // src/mirror/daemon-words.ts, behind the name of the backup
  '的 rsync 守护进程没有空余的连接 (max connections = {0})：请稍候，或在 rsyncd.conf 中调大它':
    'has an rsync daemon without a connection to spare (max connections = {0}): wait, or raise it in rsyncd.conf',
  '的 rsync 守护进程不接受模块 {0} 的用户或密码：请检查 URL 中的用户、RSYNC_PASSWORD_FILE，以及那里 secrets file 中的密码和它的权限 (600)':
    'has an rsync daemon that does not accept the user or the password for module {0}: check the user in the URL, RSYNC_PASSWORD_FILE, and in the secrets file there the password, and its mode (600)',
  '的 rsync 守护进程没有模块 {0}：请检查 URL，模块名在 rsyncd.conf 的方括号里':
    'has an rsync daemon without a module {0}: check the URL; the names of modules stand in brackets in rsyncd.conf',
  '的 rsync 守护进程不许本机访问模块 {0}：请检查 rsyncd.conf 的 hosts allow 和 hosts deny':
    'has an rsync daemon that does not let this machine into module {0}: check hosts allow and hosts deny in rsyncd.conf',
  '的 rsync 守护进程不能进入模块 ({0})：请检查 rsyncd.conf 的 path、use chroot、uid 和 gid':
    'has an rsync daemon that cannot enter the module ({0}): check path, use chroot, uid and gid in rsyncd.conf',
  '的模块只读：请在 rsyncd.conf 中为它设置 read only = no':
    'has a module that is read only: set read only = no for it in rsyncd.conf',
  '的模块只能写入，不能读取：请在 rsyncd.conf 中为它设置 write only = no':
    'has a module that is write only: set write only = no for it in rsyncd.conf',
  '的 rsync 守护进程不接受 rsync 选项 {0} (refuse options)：请在 rsyncd.conf 中放行，若是 RSYNC_OPTS 中的也可去掉':
    'has an rsync daemon that refuses the rsync option {0} (refuse options): allow it in rsyncd.conf, or remove it from RSYNC_OPTS if it is there',
  '的 rsync 守护进程拒绝：{0}': 'has an rsync daemon that refuses: {0}',

  // src/mirror/login-words.ts, daemon-link.ts, peer.ts
  '等待 rsync 守护进程就绪': 'Waiting for the rsync daemon',
  'rsync 守护进程未就绪: {0}。请检查它是否运行、主机名和端口是否正确':
    'The rsync daemon is not ready: {0}. Check that it is running and that the host name and port are right',
  'rsync 守护进程已就绪 ✓': 'The rsync daemon is ready ✓',
  'rsync 守护进程重试... ({0}/{1})': 'Trying the rsync daemon again... ({0}/{1})',
  '测试登录 rsync 守护进程': 'Testing the login to the rsync daemon',
  '登录 rsync 守护进程的测试失败 (退出码: {0})：{1}':
    'The test of the login to the rsync daemon failed (exit code: {0}): {1}',
  'rsync 守护进程重试... ({0}/{1})：{2}': 'Trying the rsync daemon again... ({0}/{1}): {2}',
  '登录 rsync 守护进程的测试成功 ✓': 'Test of the login to the rsync daemon passed ✓',
  '无法连接 rsync 守护进程，将自动重试：{0}': 'Cannot connect to the rsync daemon, trying again by itself: {0}',
  'rsync 守护进程的连接已恢复 ✓': 'Connection to the rsync daemon restored ✓',
  '{0} 没有应答': '{0} does not answer',
  '与 rsync 守护进程的连接已断开': 'The connection to the rsync daemon was lost',
  'rsync 守护进程的模块最多同时接受 {0} 个连接 (max connections)，等待变化的 rsync 因此不超过 {1} 个':
    'The module of the rsync daemon takes {0} connections at a time (max connections), so no more than {1} rsyncs wait for changes',
  '{0}，每次变化可能要先建立连接。设为 4 或更多就不受影响':
    '{0}, and each change may have to be preceded by a connection. With 4 or more, that makes no difference',

  // src/mirror/option-warnings.ts, of daemons
  'rsync:// 目标的连接没有加密：文件内容和名称以明文经过网络，只有密码以质询应答的方式核对，也无法验证对方的身份。请改用 ssh 目标，或让它经由 VPN 或加密隧道':
    'Connections to rsync:// targets are not encrypted: contents and names of files cross the network as clear text, only the password is checked by challenge and response, and the identity of the other side cannot be verified. Use an ssh target, or lead it through a VPN or an encrypted tunnel',

  // scripts/start-sshd.ts
  'SSH 主机密钥已存在 ✓': 'SSH host keys exist ✓',
  '生成 SSH 主机密钥...': 'Generating SSH host keys...',
  '无法生成主机密钥：{0}。请检查 {1} 的权限和磁盘空间':
    'Cannot generate host keys: {0}. Check the permissions of {1} and the disk space',
  'SSH 主机密钥生成完成 ✓': 'SSH host keys generated ✓',
  '无法在 {0} 公布主机密钥，源端无法据此验证本机：{1}':
    'Cannot publish the host keys in {0}, so the source cannot verify this host by them: {1}',
  '{0}。请检查共享卷的挂载和权限': '{0}. Check the mount and the permissions of the shared volume',
  '内核没有 Landlock（Linux 5.19 起）：源端的命令仍逐条检查':
    'The kernel has no Landlock (Linux 5.19 or later): commands of the source are still checked one by one',
  '{0}，但 rsync 可能被备份内的链接引到目录之外':
    '{0}, but rsync may be led out of the directory by links within the backup',
  '{0}，rsync 改在只有 DEST_DIR 和系统程序的挂载命名空间中运行':
    '{0}, and rsync runs in a mount namespace that holds nothing but DEST_DIR and the programs of the system',
  '配置 SSH 服务...': 'Configuring the SSH service...',
  '，REFUSE_OPTIONS 因此不起作用': ', so REFUSE_OPTIONS has no effect',
  'ALLOW_SHELL=true：源端的密钥可以在本机执行任意命令{0}':
    'ALLOW_SHELL=true: the key of the source may run any command on this host{0}',
  'SSH 配置完成 ✓': 'SSH configured ✓',
  '原有公钥的限制未更新: {0}': 'The restrictions of the present public key were not renewed: {0}',
  '等待源端公钥...': 'Waiting for the public key of the source...',
  '等待源端生成公钥... ({0}/{1})': 'Waiting for the source to generate its public key... ({0}/{1})',
  '没有等到源端公钥，先启动 SSH 服务，公钥出现后自动授权: {0}':
    'The public key of the source has not come; starting the SSH service first. The key is authorized by itself when it appears: {0}',
  '发现源端公钥，配置授权...': 'Found the public key of the source, authorizing it...',
  'SSH 免密登录配置完成 ✓': 'SSH login by key is set up ✓',
  '源端公钥未生效: {0}': 'The public key of the source is not in force: {0}',
  '启动 SSH 服务...': 'Starting the SSH service...',
  'SSH 服务已启动 ✓': 'SSH service started ✓',
  '  端口: {0}': '  Port: {0}',
  '  主机名: {0}': '  Host name: {0}',
  '  IP 地址: {0}': '  IP address: {0}',
  'SSH 服务器就绪，等待连接...': 'SSH server is ready, waiting for connections...',
  'SSH 服务器 - 自动配置启动': 'SSH server: automatic setup',

  // src/service/lines.ts
  '…（此行过长，省略 {0} 字节）': '… (this line is too long; bytes left out: {0})',

  // src/service/files.ts
  '应为不超过 {0} 字节的普通文件，不能是链接': 'should be a regular file of no more than {0} bytes, and not a link',
  '应为目录，不能是链接': 'should be a directory, and not a link',

  // src/service/foreign.ts
  所有用户都可以写入: 'can be written to by all users',
  '属于用户 {0}': 'belongs to user {0}',
  '{0} 经过的链接太多': 'there are too many links on the way of {0}',
  '不跟随 {0} 中的链接 {1}：它所在的目录{2}': 'the link {1} in {0} is not followed: its directory {2}',
  不是普通文件: 'is not a regular file',
  '有 {0} 个硬链接，而目录{1}': 'has {0} hard links, and its directory {1}',
  '属于用户 {0}，而目录{1}': 'belongs to user {0}, and its directory {1}',

  // src/service/log.ts
  '日志读取过慢，省略了 {0} 字节': 'The log is read too slowly; bytes left out: {0}',
  '无法写入日志文件 {0}：{1}。请检查磁盘空间、目录和权限':
    'Cannot write the log file {0}: {1}. Check the disk space, the directory and its permissions',
  '日志文件已恢复写入，其中最多缺少 {0} 条日志':
    'The log file can be written to again; entries that may be missing in it: at most {0}',
  '{0}={1} 所在的目录{2}：其内容可能被改写或伪造':
    '{0}={1} is in a directory that {2}: its content may be changed or forged',
  '{0}。其中的链接不会被跟随；如需避免，请使用只有本服务可写的目录':
    '{0}. Links in it are not followed; to avoid this, use a directory that only this service can write to',

  // src/service/user.ts
  '请在 /etc/passwd 中加上一行 {0}（容器中可挂载加了这一行的文件），或以其中已有的用户运行':
    'Add the line {0} to /etc/passwd (with containers, a file that has this line can be mounted), or run it as a user that is in there',
  '运行本程序的用户 (uid {0}) 在 /etc/passwd 中没有条目，ssh、sshd 和 ssh-keygen 因此拒绝运行。{1}':
    'The user that runs this program (uid {0}) has no entry in /etc/passwd, without which ssh, sshd and ssh-keygen refuse to run. {1}',

  // src/service/locks.ts
  文件系统不支持锁: 'the file system does not support locks',

  // src/service/keys.ts
  '公钥文件应为完整的一行: 类型 BASE64 [注释]':
    'a file with a public key should hold one whole line: TYPE BASE64 [COMMENT]',

  // src/service/processes.ts
  '在 {0} 秒内没有答复完，已中止': 'has not finished its answer within {0} s, and was stopped',
  '答复超过 {0}，不是所要的答复，已中止':
    'has answered with more than {0}, which is not what was asked for, and was stopped',
  '的输出中有一行超过 {0} 仍未结束，不是 rsync 的输出，已中止':
    'has printed a line of more than {0} without an end, which is not from rsync, and was stopped',

  // src/service/lifecycle.ts
  '收到 {0}，正在停止服务...': 'Received {0}, stopping the service...',
  '服务已停止 ✓': 'Service stopped ✓',

  // src/service/variables.ts
  '应为 true 或 false': 'should be true or false',
  '应为 zh 或 en (must be zh or en)': 'must be zh or en',
  '应为 text 或 json': 'should be text or json',
  '应为整数加单位 K、M 或 G，例如 10M': 'should be a whole number with the unit K, M or G, for example 10M',
  '应为 0 到 2000000 之间的秒数，可带小数，例如 5 或 0.5':
    'should be a number of seconds from 0 to 2000000, decimals allowed, for example 5 or 0.5',
  '应为 1 到 {0} 之间的整数': 'should be a whole number from 1 to {0}',
  '应为 1 到 65535 之间的端口': 'should be a port from 1 to 65535',
  '应为 IP 地址，例如 127.0.0.1、0.0.0.0 或 ::1': 'should be an IP address, for example 127.0.0.1, 0.0.0.0 or ::1',
  '应为主机名，以空格或逗号分隔，不带协议、端口和通配符，例如 status.example.org；IP 地址总会应答':
    'should be host names, separated by spaces or commas, without protocol, port and wildcards, for example status.example.org; IP addresses are always answered',
  '应为文件的完整路径；~ 不会展开': 'should be the full path of a file; ~ is not expanded',
  '应为普通文件，不能是目录或设备': 'should be a regular file, not a directory or a device',
  '日志、--help 和各命令的语言：zh 中文，或 en 英文 (English)':
    'language of the log, of --help and of what commands answer: zh (Chinese) or en (English)',
  '日志格式：text，或 json（每行一个对象）': 'log format: text, or json (one object a line)',
  '日志同时写入此文件，不带颜色，例如 {0}': 'also append the log to this file, without colour, for example {0}',
  'LOG_FILE 达到此大小后轮转，单位 K、M 或 G': 'rotate LOG_FILE at this size, with the unit K, M or G',
  '保留多少个轮转后的 LOG_FILE': 'how many rotated files of LOG_FILE are kept',
  '在此端口提供{0}': 'serve {0} on this port',
  'METRICS_PORT 监听的 IP 地址，0.0.0.0 = 所有地址（compose 中的默认值）':
    'IP address that METRICS_PORT listens on, 0.0.0.0 = all addresses (the default in compose)',
  'METRICS_PORT 还应答的主机名，以空格或逗号分隔；IP 地址、localhost 和本机的主机名总会应答':
    "host names that METRICS_PORT answers as well, separated by spaces or commas; IP addresses, localhost and this host's own name are always answered",
  '设置为任意值 = 日志不带颜色': 'any value = no colour in the log',
  '配置错误: {0}="{1}"：{2}': 'Configuration error: {0}="{1}": {2}',
  '缺少程序 {0}：请安装软件包 {1}（例如 apt-get install {2}）':
    'Program {0} is missing: install the package {1} (for example apt-get install {2})',
  '用法错误: {0}。请参阅 {1} --help': 'Usage error: {0}. See {1} --help',

  // src/service/status.ts
  '无法写入 {0}={1}：{2}': 'Cannot write {0}={1}: {2}',
  '{0}。请检查目录和权限，或更改 {1}': '{0}. Check the directory and its permissions, or change {1}',
  '是 {0} 的状态': 'it holds the state of {0}',
  '无法读取状态文件 {0}：{1}': 'Cannot read the status file {0}: {1}',
  '{0}。服务没有运行，或 STATUS_FILE 不同': '{0}. The service is not running, or has another STATUS_FILE',
  '不健康: {0}\n': 'unhealthy: {0}\n',
  '{0} {1} (PID {2})，启动于 {3}': '{0} {1} (PID {2}), started at {3}',
  '最近的警告和错误:': 'Latest warnings and errors:',

  // src/service/web.ts
  '：请求有多个 Host': ': the request has several Host headers',
  '：其他网站不能读取这里的内容': ': other sites cannot read what is here',
  '：只回应 GET': ': only GET is answered',
  '不以主机名 "{0}" 应答，否则其他网站可借 DNS 重绑定读取状态':
    'not served under the host name "{0}", for other sites could read the state by DNS rebinding',
  '请使用 IP 地址、localhost 或本机的主机名；若此名称确实属于本机（反向代理、Prometheus 等），请将它加入 {0}':
    "Use the IP address, localhost or this host's own name; if that name really is this host's (for a reverse proxy, Prometheus or the like), add it to {0}",
  '状态页和指标{0}。{1}': 'The status page and the metrics are {0}. {1}',
  '：{0}。{1}': ': {0}. {1}',
  '已在 {0} 提供状态页和指标': 'The status page and the metrics are served on {0} now',
  '无法监听 {0}：{1}。状态页和指标不可用，将继续重试；镜像不受影响':
    'Cannot listen on {0}: {1}. The status page and the metrics are not available, trying again; the mirror is not affected',

  // src/service/duration.ts
  '用法错误: {0} 应为整数加单位 s、m、h 或 d，不超过 7d，例如 90s、10m、2h 或 1d':
    'Usage error: {0} should be a whole number with the unit s, m, h or d, at most 7d, for example 90s, 10m, 2h or 1d',

  // src/service/control.ts
  不是套接字: 'is not a socket',
  磁盘没有应答: 'the disk does not answer',
  '另一个服务使用同一个 STATUS_FILE={0}，等待它结束...':
    'Another service uses the same STATUS_FILE={0}; waiting for it to end...',
  '另一个服务正在运行，并使用同一个 STATUS_FILE={0}': 'Another service is running with the same STATUS_FILE={0}',
  '{0}。请先停止它；若两个服务各有用处，请为每个服务设置各自的 STATUS_FILE':
    '{0}. Stop it first; if both services are needed, give each of them a STATUS_FILE of its own',
  '套接字属于用户 {0}，不是服务的': 'the socket belongs to user {0}, not to the service',
  '正在运行的服务不支持命令 {0}': 'the running service does not know the command {0}',
  超时: 'timed out',
  '超过 {0} 字节': 'longer than {0} bytes',
  连接已中断: 'the connection was cut',
  '{0} ({1}：{2})': '{0} ({1}: {2})',
  '服务没有运行，或 STATUS_FILE 不同': 'The service is not running, or has another STATUS_FILE',
  '无权控制服务，请以运行服务的用户执行': 'The service may not be controlled: do this as the user that runs it',
  服务没有应答: 'The service does not answer',

  // src/mirror/keys.ts
  '无法读取 SSH 私钥 {0}：{1}。它应没有口令、权限为 0600；移走它后重启会生成新的密钥对':
    'Cannot read the SSH private key {0}: {1}. It should have no passphrase and the mode 0600; move it away and restart to have a new key pair generated',
  '无法写入 {0}：{1}。请检查共享卷的挂载和权限':
    'Cannot write {0}: {1}. Check the mount and the permissions of the shared volume',

  // src/mirror/mounts.ts
  '不再等待挂载点 {0}，随即全量同步': 'The mount point {0} is no longer waited for; a full sync follows',
  '源目录下的挂载点 {0} 换成了另一个空的文件系统':
    'At the mount point {0} below the source directory there is another file system now, which is empty',
  '源目录下的挂载点 {0} 不见了：文件系统没有挂载，或没有应答':
    'The mount point {0} below the source directory is gone: the file system is not mounted, or does not answer',
  '为保护备份，其中原有的内容在目标上保持不变，其余照常同步':
    'To protect the backup, what belongs there is kept as it is on the targets; all else is mirrored as usual',
  '请检查挂载，恢复后会自动继续；若是有意移除，请执行 rsync-inotify --accept-deletions':
    'Check the mount: once it is back, it goes on by itself; if it was removed on purpose, run rsync-inotify --accept-deletions',
  '{0}。{1}。{2}': '{0}. {1}. {2}',
  '源目录下的挂载点 {0} 换成了另一个文件系统，备份上原有的内容将被它的内容取代':
    'At the mount point {0} below the source directory there is another file system now, whose content will replace what the backup has of it',
  '源目录下有新的挂载点 {0}，开始监控和同步其中的内容':
    'New mount point {0} below the source directory; what is in it is watched and mirrored from now on',
  '源目录下的挂载点 {0} 已恢复，重新监控和同步其中的内容 ✓':
    'The mount point {0} below the source directory is back; what is in it is watched and mirrored again ✓',

  // src/mirror/status.ts
  '日志中未逐条列出: {0} 处文件变化，{1} 次成功的同步，{2} 行 rsync 输出，{3} 次重试':
    'Counted in the log, not listed: changes: {0}, successful syncs: {1}, lines of rsync: {2}, retries: {3}',
  '正在启动，还没有开始镜像': 'starting; nothing is mirrored yet',
  服务已停止: 'the service has stopped',
  '状态已过期 {0} 秒，服务可能已不在运行': 'the state is {0} s old, so the service may no longer be running',
  '源目录 {0} 不见了或被替换': 'the source directory {0} is gone or was replaced',
  '源目录指向了新的位置，正在重新同步': 'the source directory leads to another place now, which is being synced',
  '挂载点不见了，它在备份上的内容保持不变:': 'a mount point is gone; what the backup holds of it is kept as it is:',
  '删除过多，已暂缓，确认后请执行 rsync-inotify --accept-deletions:':
    'too many deletions, which are held; if they are meant, run rsync-inotify --accept-deletions:',
  '备份端已接管，不接收镜像，直到在备份端执行 {0}:':
    'the backup has taken over and receives no mirror until {0} is run there:',
  '暂停应已结束，却仍未继续同步，请执行 rsync-inotify --resume:':
    'the pause should have ended, but syncing has not resumed; run rsync-inotify --resume:',
  '另一个 rsync-inotify 也在镜像到目标，请只保留一个:':
    'another rsync-inotify mirrors to the target, too; keep only one:',
  '监控进程不在运行，正在重新启动': 'the watching process is not running and is being restarted',
  无法连接目标: 'cannot connect to the target',
  '有内容无法同步，见 --status 和日志:': 'something cannot be mirrored, see --status and the log:',
  '同步没有任何进展，请检查备份端的磁盘:': 'the sync makes no progress; check the disk of the backup:',
  '落后 {0} 秒，超过了 {1} 秒 (MAX_LAG + SYNC_INTERVAL):':
    '{0} s behind, which is more than {1} s (MAX_LAG + SYNC_INTERVAL):',
  '不健康: {0}': 'unhealthy: {0}',
  '；': '; ',
  '健康: 已按要求暂停同步，到 {0} 为止，继续监控':
    'healthy: syncing is paused as requested until {0}; watching continues',
  '健康: 正在恢复源目录，暂停同步': 'healthy: the source directory is being restored, and syncing is paused',
  '健康: 正在进行首次全量同步': 'healthy: the first full sync is under way',
  '健康: 正在实时镜像，落后 {0} 秒': 'healthy: mirroring in real time, {0} s behind',
  '状态来自版本 {0}，无法显示：{1}': 'The state comes from version {0} and cannot be shown: {1}',
  空闲: 'idle',
  等待: 'waiting',
  同步中: 'syncing',
  重试中: 'retrying',
  无法连接: 'down',
  已暂停: 'paused',
  备份端已接管: 'promoted',
  '、': ', ',
  '自 {0} 起暂缓删除 {1} 个文件，主要位于 {2}；确认后请执行 rsync-inotify --accept-deletions':
    'deletions held since {0} (files: {1}), most of them in {2}; if they are meant, run rsync-inotify --accept-deletions',
  '自 {0} 起按要求暂停同步，到 {1} 为止；提前继续请执行 rsync-inotify --resume':
    'syncing has been paused as requested since {0}, until {1}; to resume before that, run rsync-inotify --resume',
  '自 {0} 起有 {1} 个路径无法同步：{2}': 'since {0}, paths that cannot be mirrored ({1}): {2}',
  'RSYNC_OPTS 中的选项 {0} 不能逐个文件执行，每次变化都进行全量同步':
    'RSYNC_OPTS have {0}, which does not work for single files: each change costs a full sync',
  '{0} 另加的 rsync 选项（DEST_RSYNC_OPTS）: {1}': '{0} has rsync options of its own (DEST_RSYNC_OPTS): {1}',
  '{0} 备份端保留 {1} 天内的旧版本 (HISTORY_DAYS)': '{0} the backup keeps older versions for {1} days (HISTORY_DAYS)',
  '  {0}：{1}，自 {2} 起': '  {0}: {1}, since {2}',
  '无法监控 {0} 处，其中的变化由全量同步镜像：':
    'places that cannot be watched, whose changes are mirrored by full syncs: {0}:',
  '{0}秒': '{0} s',
  '源目录: {0}，监控 {1} 个目录，{2} 个事件，重启 {3} 次，溢出 {4} 次':
    'Source directory: {0}, watched directories: {1}, events: {2}, restarts: {3}, overflows: {4}',
  目标: 'target',
  状态: 'state',
  落后: 'behind',
  待同步: 'pending',
  最近成功: 'last success',
  '成功/失败': 'success/failure',
  传输: 'transferred',
  '{0} 自 {1} 起得知备份端已接管 (start-sshd --promote)，变化暂不同步':
    '{0} the backup has been known since {1} to have taken over (start-sshd --promote); changes are not synced for now',
  '{0} 也被另一个 rsync-inotify 镜像: {1}': 'another rsync-inotify mirrors to {0}, too: {1}',

  // src/mirror/rsync-options.ts
  '只显示信息，不传输任何内容': 'only shows information and transfers nothing',
  '会让 rsync 作为服务端运行，不传输任何内容': 'would have rsync run as a server, and transfer nothing',
  会删除源目录中已经传输的文件: 'would delete files from the source directory once they are transferred',
  '只是演练，不传输任何内容': 'only tries what would be done and transfers nothing',
  '只列出文件，不传输任何内容': 'only lists files and transfers nothing',
  '只写批处理文件，不传输任何内容': 'only writes a batch file and transfers nothing',
  不能用于远程目标: 'cannot be used for a remote target',
  '连接总是由 ssh 建立，这里的命令不会采用；ssh 的选项请写入 SSH_OPTS，例如 SSH_OPTS="-p 2222 -i /keys/id"':
    'the connection is always made by ssh, and a command given here would not be used; options of ssh belong in SSH_OPTS, for example SSH_OPTS="-p 2222 -i /keys/id"',
  '不能包含 {0}：{1}': 'must not contain {0}: {1}',
  '“-” 指标准输入，服务在那里读不到任何内容；请写文件的完整路径':
    '"-" means standard input, from which the service can read nothing; give the full path of a file',
  '只让备份端的 rsync 采用 {0}，同步会失败或永远等待':
    'it applies {0} to rsync on the backup only, with which a sync would fail or wait for ever',
  '只能包含选项：“{0}” 开头的长横线不是连字符（可能被编辑器替换），应写作 {1}':
    'must contain options only: the long dash at the start of "{0}" is not a hyphen (an editor may have replaced it); it should be written {1}',
  '只能包含选项，例如 -avz --delete：“{0}” 不是选项，rsync 会将它当作另一个要镜像的文件；若是选项的值，应写作 --选项=值，有几个值就写几次':
    'must contain options only, for example -avz --delete: "{0}" is not an option, and rsync would take it for another file to be mirrored; the value of an option should be written --option=value, as many times as there are values',
  '“{0}” 应以两个连字符开头：-{1}': '"{0}" should begin with two hyphens: -{1}',
  '{0} 之后缺少它的值；请补上，或去掉这个选项': '{0} lacks its value; add it, or remove this option',
  '与 -R 一起使用时应为不含 /./ 的完整路径；要在目标上省去前面的目录，请从 RSYNC_OPTS 中去掉 -R，并把其余目录写入 DEST_DIR':
    'together with -R, it should be a full path without /./; to leave leading directories out on the target, remove -R from RSYNC_OPTS and put the other directories into DEST_DIR',
  'RSYNC_OPTS 只复制一层，没有结尾的斜杠时仅在目标上建立一个空目录；请加上结尾的斜杠':
    'RSYNC_OPTS copy one level only, and without a slash at the end they would make nothing but an empty directory on the target; add a slash at the end',
  '没有 -a 或 -r（或被 --no-r 取消），rsync 会跳过源目录，不传输任何内容':
    'without -a or -r (or with --no-r), rsync skips the source directory and transfers nothing',
  '--existing 与 --ignore-existing 合用时不传输任何内容':
    '--existing together with --ignore-existing transfers nothing',

  // src/mirror/options.ts
  '引号或反斜杠没有配对，应为以空格分隔、可带引号的选项列表':
    'a quote or a backslash has no counterpart; should be a list of options separated by spaces, which may be quoted',

  // src/mirror/config.ts
  '应为已存在且当前用户可读的目录 ({0})': 'should be an existing directory that the current user can read ({0})',
  '是符号链接，rsync 只会复制链接本身；在结尾加上斜杠表示它所指目录的内容':
    'is a symbolic link, of which rsync would copy only the link itself; with a slash at the end it stands for the content of the directory that it leads to',
  应为目录: 'should be a directory',
  '应为目录的完整路径；~ 不会展开，不能包含双引号、${ 和控制字符':
    'should be the full path of a directory; ~ is not expanded, and neither double quotes, ${ nor control characters are allowed',
  '应为目标主机上的目录，不能以冒号开头或包含换行符':
    'should be a directory on the target host, and must neither begin with a colon nor contain line breaks',
  '应为文件数、1% 到 100% 之间的百分比或 off，例如 50% 或 2000':
    'should be a number of files, a percentage from 1% to 100%, or off, for example 50% or 2000',
  '应为 SOURCE_DIR 下目录的相对路径，以冒号分隔，例如 cache:var/tmp':
    'should be directories below SOURCE_DIR as relative paths, separated by colons, for example cache:var/tmp',
  '源目录；结尾有无斜杠的含义与 rsync 相同': 'source directory; a slash at the end means what it means to rsync',
  '目标主机，[user@]host，省略用户时为 root；rsync 守护进程写作 rsync://[user@]host[:port]/module/dir':
    'target host, [user@]host; the user is root if left out; an rsync daemon is rsync://[user@]host[:port]/module/dir',
  '多个目标，以空格或逗号分隔：[user@]host[:dir] 或 rsync://…；设置后取代 DEST_HOST':
    'several targets, separated by spaces or commas: [user@]host[:dir] or rsync://…; takes the place of DEST_HOST',
  'rsync:// 目标的密码文件，只有当前用户可读，例如 /run/secrets/rsync-password':
    'file with the password for rsync:// targets, which only its user may read, for example /run/secrets/rsync-password',
  '不能包含 -e：rsync:// 目标不经由 ssh': 'must not contain -e: no ssh leads to rsync:// targets',
  '配置错误: {0} 不能与 rsync:// 目标一起使用，请去掉它':
    'Configuration error: {0} does not go together with rsync:// targets, remove it',
  目标主机上的目录: 'directory on the target host',
  'rsync 选项；可用引号，不做任何展开': 'rsync options; may be quoted, nothing is expanded',
  '个别目标另加的 rsync 选项，写在“目标:”之后，接在 RSYNC_OPTS 后面，例如 nas: --no-A pi: --bwlimit=500':
    'rsync options of single targets, behind "TARGET:", which come after RSYNC_OPTS, e.g. nas: --no-A pi: --bwlimit=500',
  'ssh 选项，例如 -p 2222；其中指定的端口在各处生效':
    'ssh options, for example -p 2222; the port in them counts everywhere',
  '同步间隔（秒），可带小数，0 = 不间隔；这段时间内最多开始一次同步':
    'sync interval in seconds, decimals allowed, 0 = no pause: at most one sync begins within it',
  '等待 SSH、测试登录、首次全量同步断线后的最大重试次数，每次 5 秒':
    'how many times at most to try while waiting for SSH, testing the login, and after a first full sync cut short, 5 seconds each',
  '定期全量比较的间隔（秒），作为安全网，0 = 从不': 'seconds between two full comparisons, as a safety net; 0 = never',
  '不监控的目录，SOURCE_DIR 下的相对路径，以冒号分隔；全量同步仍包含它们':
    'directories that are not watched, relative to SOURCE_DIR, separated by colons; full syncs still include them',
  'true = 允许空的源目录清空非空的备份': 'true = let an empty source directory empty a backup that is not empty',
  '一小时内在一个目标上最多删除多少，超出则暂缓删除：文件数、上次全量比较时文件数的百分比（不少于 1000 个文件）或 off':
    'how much may be deleted on a target within an hour; more is held: a number of files, a percentage of those at the last full comparison (never less than 1000 files), or off',
  'true = 目录树内移动的文件和目录在目标上直接重命名，不再传输':
    'true = files and directories that are moved within the tree are renamed on the target instead of being transferred again',
  用来交换公钥的共享卷: 'shared volume on which public keys are exchanged',
  密钥对所在目录: 'where the key pair is',
  '状态文件，供 --status 和 --healthcheck 使用，整体替换':
    'status file for --status and --healthcheck, replaced as a whole',
  '备份落后源目录超过这么久（秒，另加 SYNC_INTERVAL）时 --healthcheck 视为不健康，0 = 不限':
    '--healthcheck says unhealthy once the backup is further behind than this (seconds, plus SYNC_INTERVAL); 0 = no limit',
  'Prometheus 指标文件，整体替换，例如 /var/metrics/rsync.prom':
    'file with metrics for Prometheus, replaced as a whole, for example /var/metrics/rsync.prom',
  '状态页 /、/metrics 和 /healthz': 'the status page /, /metrics and /healthz',
  '应为 [user@]host，例如 root@rsync-backup 或 192.0.2.7；端口写在 SSH_OPTS 里':
    'should be [user@]host, for example root@rsync-backup or 192.0.2.7; a port belongs in SSH_OPTS',
  '{0} 应为 [user@]host[:dir]，例如 root@rsync-backup:/data/backup/；IPv6 地址须加方括号':
    '{0} should be [user@]host[:dir], for example root@rsync-backup:/data/backup/; IPv6 addresses need brackets',
  '不能位于 SOURCE_DIR 之内，否则每次写入都会触发同步；或将其目录加入 WATCH_EXCLUDE':
    'must not be within SOURCE_DIR, or each write to it would cause a sync; or add its directory to WATCH_EXCLUDE',
  '应以“目标:”开头，后接它的 rsync 选项，例如 nas: --no-A --no-X pi: --bwlimit=500':
    'must begin with "TARGET:", followed by its rsync options, e.g. nas: --no-A --no-X pi: --bwlimit=500',
  '{0}；目标名须以冒号结尾': '{0}; the name of a target ends with a colon',
  '没有名为 {0} 的目标，现有目标为 {1}': 'no target is called {0}; there are {1}',
  '目标 {0} 出现了多次；请把它的选项写在一处': 'the target {0} is named more than once; write its options in one place',
  '已用于另一个变量，请使用不同的文件': 'is used by another variable already; use different files',
  [`rsync-inotify {0}：把一个目录树的每次变化实时镜像到备份主机

用法: rsync-inotify [--help | --version | --check | --status | --healthcheck | --verify | --accept-deletions]
      rsync-inotify --sync [时长] | --pause [时长] | --resume | --notify-test
      rsync-inotify --restore [路径…] [--from 目录] [--to 目录]
  --check         检查配置和所需程序后退出
  --status        显示正在运行的服务的状态
  --healthcheck   用一行说明镜像是否正常；退出状态 0 正常，1 不正常
  --verify        按校验和比较源目录与每个目标，不做任何更改；退出状态 0 相同，1 不同，2 无法判断
  --accept-deletions
                  让正在运行的服务放行被暂缓的删除；退出状态 0 已办理，1 服务没有运行
  --sync          让正在运行的服务立即同步，此前发生的一切都到达每个目标后返回；退出状态 0 都已到达，1 没有，
                  或超过时长（如 30s、10m，默认不限），并说明哪个目标缺少什么
  --pause         让正在运行的服务暂停同步，继续监控，变化在结束后同步；时长如 90s、10m、2h、1d，默认 1h，最长 7d，
                  到时自动结束，重启后仍然有效。没有同步在进行时返回；退出状态 0 已暂停，1 没有
  --resume        提前结束暂停；退出状态 0 已结束，1 没有暂停（可能已到期）或服务没有运行
  --notify-test   向 NOTIFY_URL 的每个 URL 发送一份测试报告，并说明收到的应答；退出状态 0 都已接受，1 没有
  --restore       从备份取回整个目录或其中的路径，之后按校验和比较；备份端须先执行 start-sshd --allow-restore。
                  目标默认为 SOURCE_DIR，须是空的，除非指明路径（. 表示全部）；恢复期间服务暂停同步。
                  --from 备份上的另一个目录，例如 --recover 恢复出的；退出状态 0 相同，1 没有完成或不同

环境变量（名称、默认值、说明）:
{1}

退出状态: 0 收到 SIGTERM/SIGINT/SIGHUP 后停止；1 启动步骤失败或缺少程序；2 配置或用法错误
`]: `rsync-inotify {0}: mirrors each change of a directory tree to backup hosts, in real time

Usage: rsync-inotify [--help | --version | --check | --status | --healthcheck | --verify | --accept-deletions]
       rsync-inotify --sync [DURATION] | --pause [DURATION] | --resume | --notify-test
       rsync-inotify --restore [PATH…] [--from DIRECTORY] [--to DIRECTORY]
  --check         check the configuration and the required programs, then exit
  --status        show the state of the running service
  --healthcheck   say in a line whether the mirror is in order; exit status 0 if so, 1 if not
  --verify        compare the source directory with each target by checksum, and change nothing; exit status 0 equal, 1 different, 2 cannot tell
  --accept-deletions
                  have the running service let held deletions through; exit status 0 done, 1 no service is running
  --sync          have the running service mirror at once, and return when all that happened before is on every target;
                  exit status 0 all is there, 1 not, or not within the duration (e.g. 30s, 10m; without a limit unless
                  told otherwise), with what each target lacks
  --pause         have the running service sync nothing, but go on to watch; changes are synced afterwards. The duration is like 90s, 10m, 2h, 1d,
                  1h by default, at most 7d; the pause ends by itself and outlives a restart. Returns once no sync is under way; exit status 0 paused, 1 not
  --resume        end a pause early; exit status 0 ended, 1 there is no pause (it may have expired) or no service is running
  --notify-test   send a test report to each URL of NOTIFY_URL and say what came back; exit status 0 all have accepted it, 1 not
  --restore       fetch the whole directory, or paths of it, from the backup, then compare by checksum; run start-sshd --allow-restore on the backup before.
                  They go to SOURCE_DIR, which has to be empty unless paths are named (. means all); the service does not sync during the restore.
                  --from names another directory of the backup, for example one that --recover has made; exit status 0 equal, 1 not finished or different

Environment variables (name, default, meaning):
{1}

Exit status: 0 stopped by SIGTERM/SIGINT/SIGHUP; 1 a step of the start failed or a program is missing; 2 bad configuration or usage
`,

  // src/mirror/option-warnings.ts
  'RSYNC_OPTS 中的 --ignore-errors 未采用：读取出错时，它会让 rsync 删除备份中没能读到的内容':
    '--ignore-errors in RSYNC_OPTS is not used: after a read error, it would have rsync delete from the backup what could not be read',
  'RSYNC_OPTS 中的 --backup-dir 位于目标目录之内：除非排除它，带 --delete 的全量同步会把其中的旧版本再移入更深一层并互相覆盖，源端的密钥也能删除它们。请去掉它，改在备份端设置 HISTORY_DAYS（例如 HISTORY_DAYS=30）':
    '--backup-dir in RSYNC_OPTS is within the target directory: unless it is excluded, a full sync with --delete moves the older versions in it one level deeper, where they overwrite each other, and the key of the source can delete them. Remove it, and set HISTORY_DAYS on the backup instead (for example HISTORY_DAYS=30)',

  // src/mirror/memory.ts
  内容不是本程序写入的: 'its content was not written by this program',
  '无法读取 {0}，视为首次启动：{1}': 'Cannot read {0}; going on as at a first start: {1}',
  '无法保存 {0}：{1}': 'Cannot save {0}: {1}',
  '{0}。重启后将不记得源目录、挂载点、被暂缓的删除和暂停':
    '{0}. After a restart, the source directory, the mount points, the held deletions and a pause will not be remembered',

  // src/mirror/held.ts
  '目标上有 {0} 个文件待删除{1}，已暂缓删除，其他变化照常同步':
    'Files to be deleted on the target: {0}{1}. Deletions are held; all other changes are mirrored as usual',
  '使用 compose 时: docker compose exec rsync-source {0}': 'with compose: docker compose exec rsync-source {0}',
  '若是误删，请在源目录中恢复；若确属有意，请执行 {0}（{1}）':
    'If this is a mistake, bring them back in the source directory; if it is meant, run {0} ({1})',
  '{0}。主要位于 {1}。{2}': '{0}. Most of them are in {1}. {2}',

  // src/mirror/ssh.ts
  'ssh 没有说明它是否支持 {0}：{1}': 'ssh did not say whether it supports {0}: {1}',
  '备份端的登录 shell 在执行命令时自己也输出内容（{0}），rsync 因此无法工作；请让 ~/.bashrc 等文件只在交互登录时输出':
    'the login shell of the backup prints something of its own when it runs a command ({0}), with which rsync cannot work; have ~/.bashrc and the like print in interactive logins only',
  '经由跳板机或 ProxyCommand 连接失败：{0}': 'cannot connect through the jump host or ProxyCommand: {0}',

  // src/mirror/check.ts
  'rsync 不传输任何内容就结束': 'rsync ends without transferring anything',
  'rsync 不接受这些选项：{0}': 'rsync does not accept these options: {0}',
  'ssh 不接受这些选项：{0}': 'ssh does not accept these options: {0}',
  '不能包含只显示信息的选项，例如 -V': 'must not contain options that only show something, such as -V',
  '只能包含选项，例如 -p 2222': 'must contain options only, for example -p 2222',
  '不能包含 -N、-s、-f 或 -n，否则无法运行 rsync':
    'must not contain -N, -s, -f or -n, with which rsync could not be run',
  '无法确定目标主机的地址：{0}': 'Cannot find the address of the target host: {0}',
  '配置错误: DEST_HOSTS 中的 {0} 和 {1} 相同或互相包含，两份镜像会互相破坏':
    'Configuration error: {0} and {1} in DEST_HOSTS are the same or one is within the other, so the two mirrors would damage each other',

  // src/mirror/source.ts
  '源目录 {0} {1}': 'The source directory {0} {1}',
  已不是启动时的目录: 'is no longer the directory that it was at the start',
  不见了: 'is gone',
  '{0}，为保护备份拒绝同步。请检查挂载；若是有意更换，请重启服务':
    '{0}: refused to sync, to protect the backup. Check the mount; if it was replaced on purpose, restart the service',
  '无法读取源目录 {0}：{1}。请检查它的权限和磁盘':
    'Cannot read the source directory {0}: {1}. Check its permissions and the disk',

  // src/mirror/source-guard.ts
  '{0}（原为 {1}）': '{0} (it was {1})',
  '源目录 {0} 现在指向 {1}，重新监控并全量同步':
    'The source directory {0} now leads to {1}; watching anew, and a full sync follows',
  '源目录 {0} 已恢复，重新监控并全量同步 ✓':
    'The source directory {0} is back; watching anew, and a full sync follows ✓',
  '源目录 {0} 位于另一个文件系统上，不是以前镜像的那一个':
    'The source directory {0} is on another file system, not on the one that was mirrored before',
  '{0}：可能是磁盘没有挂载或被更换，为保护备份拒绝同步。请检查挂载，恢复后会自动继续；若是有意更换，请执行 rsync-inotify --accept-deletions':
    '{0}: a disk may not be mounted, or may have been replaced, so syncing is refused to protect the backup. Check the mount: once it is back, it goes on by itself; if it was replaced on purpose, run rsync-inotify --accept-deletions',

  // src/mirror/announcer.ts
  '变化频繁：重复的变化和成功的同步不再逐条列出，每分钟汇总一次；新的文件、失败和警告照常列出':
    'Changes are frequent: repeated changes and successful syncs are no longer listed one by one but summed up once a minute; new files, failures and warnings are listed as before',
  '变化不再频繁，恢复逐条列出': 'Changes are no longer frequent; everything is listed one by one again',
  '{0} 次成功的同步 ({1} 个文件，{2}，共 {3} 秒)': 'successful syncs: {0} ({1} files, {2}, {3} s in all)',
  '{0} 处文件变化、{1} 行 rsync 输出': 'changes: {0}, lines of rsync: {1}',
  '过去 {0} 秒未逐条列出：{1}、{2}': 'Not listed one by one in the last {0} s: {1}, {2}',
  '检测到文件变化: {0} {1}': 'Change detected: {0} {1}',
  '另有 {0} 处文件变化未逐条列出': '{0} more changes are not listed one by one',

  // src/mirror/unwatched.ts
  没有进入的权限: 'it may not be entered',
  '请让运行本服务的用户可以读取和进入；若不需要它，请用 --exclude 排除并列入 WATCH_EXCLUDE':
    'let the user that runs this service read and enter it; if it is not needed, exclude it with --exclude and list it in WATCH_EXCLUDE',
  '路径超过了 4095 字节': 'its path is longer than 4095 bytes',
  '请缩短路径，或移走其中嵌套过深的目录':
    'shorten the path, or move directories away from it that are nested too deeply',
  目录嵌套过深: 'directories are nested too deeply',
  '请移走它，或提高 ulimit -n': 'move it away, or raise ulimit -n',
  它的文件系统已断开: 'its file system is disconnected',
  '请重新挂载，例如提供它的 FUSE 进程已经退出':
    'mount it again; the process of FUSE that provides it may have exited, for example',
  它的网络文件系统已失效: 'its network file system has gone stale',
  请重新挂载: 'mount it again',
  读取错误: 'read error',
  请检查磁盘和文件系统: 'check the disk and the file system',
  文件系统已损坏: 'its file system is damaged',
  '请用 fsck 检查和修复': 'check and repair it with fsck',
  其中无法监控的位置过多: 'too many places in it cannot be watched',
  请清理其中嵌套过深或无法读取的目录: 'clean up directories in it that are nested too deeply or cannot be read',
  '另有 {0} 处无法监控，见 rsync-inotify --status': '{0} more places cannot be watched; see rsync-inotify --status',
  '路径 {0} 已可监控，或已不存在 ✓': 'The path {0} can be watched now, or is gone ✓',
  请检查它所在的文件系统: 'check the file system that it is on',
  '其余照常监控和同步；它会定期重试，恢复后自动监控':
    'All else is watched and mirrored as usual; this is tried again now and then, and watched by itself once that is possible',
  '无法监控 {0}：{1}。{2}。{3}': 'Cannot watch {0}: {1}. {2}. To do: {3}',

  // src/mirror/watcher-words.ts
  '系统打开的文件数达到上限，请执行 sysctl fs.file-max=1048576':
    'the system has reached its limit of open files: run sysctl fs.file-max=1048576',
  'inotify 实例数达到上限，请执行 sysctl fs.inotify.max_user_instances=1024':
    'the limit of inotify instances is reached: run sysctl fs.inotify.max_user_instances=1024',
  '监控数量达到上限，请执行 sysctl fs.inotify.max_user_watches=1048576':
    'the limit of watches is reached: run sysctl fs.inotify.max_user_watches=1048576',
  '打开的文件数达到上限，请提高 ulimit -n（systemd 中为 LimitNOFILE，容器中为 --ulimit nofile）':
    'the limit of open files is reached: raise ulimit -n (LimitNOFILE with systemd, --ulimit nofile with containers)',

  // src/mirror/inotifywait.ts
  'inotifywait 没有应答 (可能被 SIGSTOP 暂停，或已卡住)，将强行终止并更换，随后全量同步':
    'inotifywait does not answer (suspended by SIGSTOP, perhaps, or stuck); it is killed and replaced, and a full sync follows',
  '无法启动 inotifywait：{0}': 'Cannot start inotifywait: {0}',
  '。': '. ',
  'inotifywait 退出 (退出码: {0})：{1}': 'inotifywait exited (exit code: {0}): {1}',

  // src/mirror/inotifywaits.ts
  监控已停止: 'watching has stopped',

  // src/mirror/progress.ts
  '{0} 个文件，{1}/s': 'files: {0}, {1}/s',
  '{0}%，{1}{2}': '{0}%, {1}{2}',
  '，仍在扫描': ', still scanning',
  '同步进度: {0}': 'Sync progress: {0}',
  '恢复进度: {0}': 'Restore progress: {0}',

  // src/mirror/differences.ts
  缺少: 'missing',
  多余: 'extra',
  内容不同: 'content differs',
  属性不同: 'attributes differ',
  大小: 'size',
  时间: 'time',
  权限: 'permissions',
  属主: 'owner',
  属组: 'group',
  访问时间: 'access time',
  扩展属性: 'extended attributes',
  链接目标: 'link target',
  设备号: 'device number',
  硬链接: 'hard links',

  // src/mirror/faults.ts
  'rsync: （同一次同步中更多的此类错误不再逐行显示）\n':
    'rsync: (further errors of this kind in the same sync are not shown line by line)\n',
  '的 rsync 不支持 {0}，请在 RSYNC_OPTS 或只为此目标在 DEST_RSYNC_OPTS 中写 {1}':
    'has an rsync without {0}: write {1} into RSYNC_OPTS, or for this target alone into DEST_RSYNC_OPTS',
  '的 sudo 要求输入密码，请在 sudoers 中以 NOPASSWD 允许 rsync':
    'has a sudo that asks for a password: allow rsync with NOPASSWD in sudoers',
  '的 rrsync 一次只允许一个 rsync，请在 authorized_keys 中为 rrsync 加上 -no-lock':
    'has an rrsync that lets only one rsync run at a time; add -no-lock to rrsync in authorized_keys there',

  // src/mirror/rsync.ts
  '另有 {0} 行 rsync 输出未逐条列出': '{0} more lines of rsync are not listed',
  '无法启动 rsync：{0}': 'cannot start rsync: {0}',
  '语法或用法错误，请检查 RSYNC_OPTS': 'syntax or usage error: check RSYNC_OPTS',
  '协议不兼容，请检查两端 rsync 版本，以及备份端的登录 shell 是否在执行命令时自己也输出内容':
    'protocol incompatibility: check the versions of rsync on both sides, and whether the login shell of the backup prints something of its own when it runs a command',
  '选择输入输出文件或目录出错，请检查目录和权限':
    'errors selecting input/output files, dirs: check the directories and their permissions',
  '不支持请求的操作，请检查两端 rsync 版本':
    'requested action not supported: check the versions of rsync on both sides',
  '启动客户端与服务器协议出错，请检查备份端': 'error starting the client-server protocol: check the backup',
  无法写入日志文件: 'cannot write to the log file',
  '套接字读写错误，请检查网络': 'error in socket I/O: check the network',
  '文件读写错误，请检查备份端磁盘空间、目录和权限，以及 RSYNC_OPTS 所指的规则文件':
    'error in file I/O: check the disk space of the backup, the directories and their permissions, and the files of rules named in RSYNC_OPTS',
  'rsync 协议数据流错误或协议版本不匹配，请检查网络、备份端磁盘空间和两端 rsync 版本':
    'error in the rsync protocol data stream, or versions of the protocol that do not match: check the network, the disk space of the backup and the versions of rsync on both sides',
  程序诊断错误: 'errors with program diagnostics',
  进程间通信错误: 'error in IPC code',
  收到终止信号: 'received a signal to end',
  'waitpid() 出错': 'error in waitpid()',
  '内存分配失败，请检查内存': 'error allocating core memory buffers: check the memory',
  '部分文件传输失败，请检查权限、磁盘空间': 'partial transfer due to errors: check the permissions and the disk space',
  部分源文件在传输前消失: 'partial transfer due to vanished source files',
  '达到 --max-delete 限制，部分文件没有删除':
    'the --max-delete limit stopped deletions, so some files were not deleted',
  '数据收发超时，请检查网络': 'timeout in data send/receive: check the network',
  '等待守护进程连接超时，请检查网络': 'timeout waiting for the daemon connection: check the network',
  'rsync 无法执行，请检查权限和系统资源': 'rsync cannot be run: check the permissions and the resources of the system',
  '备份端找不到 rsync，请在备份端安装 rsync': 'rsync was not found on the backup: install rsync there',
  'SSH 连接失败，请检查 SSH 服务、密钥配置': 'the SSH connection failed: check the SSH service and the keys',
  'rsync 被信号 {0} 终止；信号 9 多为内存不足': 'rsync was ended by signal {0}; signal 9 mostly means a lack of memory',
  '未知错误，请参阅 rsync(1)': 'unknown error: see rsync(1)',
  暂停期间没有同步: 'nothing was synced because of a pause',
  '同步失败 (退出码: {0})：{1}': 'Sync failed (exit code: {0}): {1}',
  '备份端{0}': 'the backup {0}',
  '的标准错误中有超过 {0} 不是 rsync 的错误信息，已中止':
    'has written more than {0} to standard error that is not from rsync, and was stopped',
  '备份端{0}。请检查备份端，例如登录时运行的脚本；将自动重试':
    'The backup {0}. Check the backup, for example scripts that run at login; trying again by itself',

  // src/mirror/voice.ts
  '目标已有 {0} 分钟无法连接，重试了 {1} 次，将继续重试；{2} 处变化等待同步':
    'The target has been out of reach for {0} min (tries: {1}), and is tried again and again. Changes waiting for the sync: {2}',
  '{0}。{1}': '{0}. {1}',
  '目标恢复连接，此前 {0} 秒无法连接，重试了 {1} 次 ✓': 'The target can be reached again after {0} s (tries: {1}) ✓',

  // src/mirror/target-state.ts
  '备份端已接管 (start-sshd --promote)，不接收镜像：变化暂不同步，每分钟查看一次':
    'The backup has taken over (start-sshd --promote) and receives no mirror: changes are not synced for now, and it is asked again every minute',
  '备份端重新接收镜像 (start-sshd --demote) ✓，立即进行一次全量比较':
    'The backup receives the mirror again (start-sshd --demote) ✓; comparing everything with it once, now',
  '{0}。若要恢复镜像，请在备份端执行 {1}': '{0}. To mirror again, run {1} on the backup',

  // src/mirror/markers.ts
  服务正在停止: 'the service is stopping',

  // src/mirror/watch.ts
  'inotifywait 意外退出 (退出码: {0})，正在重新启动监控':
    'inotifywait exited unexpectedly (exit code: {0}); watching is being restarted',
  'inotify 事件队列溢出，有变化未被看到，将重新建立监控并全量同步。可增大 sysctl fs.inotify.max_queued_events':
    'The queue of inotify has overflowed and changes were missed: watching begins anew, and a full sync follows. sysctl fs.inotify.max_queued_events can be raised',
  '监控已恢复，将进行一次全量同步': 'Watching is restored; a full sync follows',
  '变化仍在不断发生，停止前最后的变化由下次启动时的全量同步包含':
    'Changes keep coming: the last ones before the stop are mirrored by the full sync at the next start',
  '{0} 秒后重新启动监控': 'Watching is restarted in {0} s',

  // src/mirror/published-keys.ts
  '请删除 {0} 中不再使用的文件': 'Delete files that are no longer used from {0}',
  '公布的主机密钥有 {0} 个，只采用了最新的 {1} 个。{2}':
    '{0} host keys are published; only the {1} newest are used. {2}',
  '无法读取公布的主机密钥 {0}：{1}。请检查共享卷的挂载和权限':
    'Cannot read the published host keys in {0}: {1}. Check the mount and the permissions of the shared volume',
  '忽略了公布的主机密钥 {0}：{1}': 'Ignored the published host key {0}: {1}',
  '另外忽略了 {0} 个公布的主机密钥': '{0} more published host keys were ignored',

  // src/mirror/host-keys.ts
  '无法在 {0} 中创建临时目录，请检查权限和磁盘空间':
    'Cannot make a temporary directory in {0}. Check the permissions and the disk space',
  '{0} 没有应答。请检查共享卷': '{0} does not answer. Check the shared volume',
  '共享卷没有应答: {0}。在此之前公布的主机密钥继续有效':
    'The shared volume does not answer: {0}. The host keys that were published before stay in force',
  '无法保存公布的主机密钥：{0}': 'Cannot save the published host keys: {0}',
  '跳板机 {0} 的主机密钥未知，或已改变，ssh 拒绝经由它连接，没有发送任何数据。这与备份主机的身份无关。':
    'The host key of the jump host {0} is unknown or has changed, so ssh refused to connect through it; no data was sent. This has nothing to do with the identity of the backup host. ',
  '请核对跳板机的密钥指纹，再写入它所用的 known_hosts：ssh 连接跳板机时不用 SSH_DIR 和 SSH_OPTS，只用 ~/.ssh 和 ssh 的配置文件（可用 -F 指定，在其中为跳板机写明 UserKnownHostsFile 和 IdentityFile）':
    'Compare the key fingerprint of the jump host, then add the key to the known_hosts that ssh uses for it: to reach a jump host, ssh uses neither SSH_DIR nor SSH_OPTS but ~/.ssh and its configuration file (-F names another one, in which UserKnownHostsFile and IdentityFile can be set for the jump host)',
  ' 或 ': ' or ',
  '备份主机的密钥与 {0} 中公布的不符，可能有人在冒充备份主机！':
    'The key of the backup host is not the one published in {0}: somebody may be posing as the backup host!',
  '应为 {0}。若备份端是重建的，它的 start-sshd 启动时会公布新密钥，请检查两端是否挂载了同一个共享卷；没有共享卷时，请将新的 host_keys 复制过来':
    'It should be {0}. If the backup was set up anew, its start-sshd publishes the new keys at its start: check that both sides mount the same shared volume; without a shared volume, copy the new host_keys here',
  '{0} 中没有有效的主机密钥，无法确认备份主机的身份。':
    'There is no valid host key in {0}, so the identity of the backup host cannot be verified.',
  '备份端的 start-sshd 启动时会公布它们，请检查共享卷；若备份端确实不再公布，请清空该目录并重启服务':
    'start-sshd on the backup publishes them at its start: check the shared volume; if the backup really does not publish any more, empty this directory and restart the service',
  '备份端的 start-sshd 启动时会公布它们，请检查共享卷；没有共享卷时，请将备份端的 host_keys 复制过来；备份端没有 start-sshd 时（例如 NAS），请将它的主机公钥写入该目录':
    'start-sshd on the backup publishes them at its start: check the shared volume; without a shared volume, copy host_keys of the backup here; of a backup without start-sshd, such as a NAS, put the public host key into this directory',
  '{0}已拒绝连接，没有发送任何数据。{1}': '{0} The connection was refused, and no data was sent. {1}',

  // src/mirror/connection.ts
  '无法建立共享的 SSH 连接，将自动重试：{0}': 'Cannot make the shared SSH connection, trying again by itself: {0}',
  'SSH 连接已恢复 ✓': 'SSH connection restored ✓',
  '共享的 SSH 连接的套接字 {0} 被删除，例如被清理临时文件的程序':
    'The socket {0} of the shared SSH connection was deleted, by a cleaner of temporary files for example',
  'SSH 连接已断开': 'The SSH connection was lost',
  '{0}，正在重新连接...': '{0}; connecting again...',

  // src/mirror/backup-guard.ts
  '已重新启动，或目标目录已更换': 'was restarted, or its destination was replaced',
  '的连接曾经中断，无法得知它是否已更换': 'was out of reach for a while, so it is not known whether it was replaced',
  '备份端{0}，立即进行一次全量比较': 'The backup {0}; comparing everything with it once, now',

  // src/mirror/nesting.ts
  '配置错误: {0} 就在本机上，{1}。请更改 DEST_DIR 或 SOURCE_DIR':
    'Configuration error: {0} is on this very machine: {1}. Change DEST_DIR or SOURCE_DIR',
  '位于源目录 {0} 之内，镜像会不断把自己再镜像一遍':
    'it is within the source directory {0}, and the mirror would mirror itself again and again',
  '源目录 {0} 位于其中，同步时的删除会删掉源目录本身':
    'the source directory {0} is within it, and the deletions of a sync would delete the source directory itself',

  // src/mirror/restoring.ts
  '正在恢复源目录 {0}，暂停同步，继续监控':
    'The source directory {0} is being restored: syncing is paused, watching continues',
  '恢复已结束，继续同步：随即全量比较': 'The restore has ended and syncing resumes: a full comparison follows',
  源目录没有被恢复锁定: 'the source directory is not locked by a restore',

  // src/mirror/pause.ts
  '启动前的暂停仍然有效，到 {0} 为止：不同步，继续监控':
    'The pause from before this start still holds, until {0}: nothing is synced, watching continues',
  '已按要求暂停同步，到 {0} 为止，继续监控': 'Syncing is paused as requested until {0}; watching continues',
  已到期: 'has expired',
  '暂停{0}，继续同步': 'The pause {0}; syncing resumes',
  时长无效: 'the duration is invalid',
  '暂停已被结束或更改，而之前开始的同步可能仍在进行':
    'The pause was ended or changed, and a sync that was begun before may still be under way',
  '服务正在停止，之前开始的同步尚未结束': 'The service is stopping, and a sync that was begun before has not ended yet',
  '（无法保存在 SSH_DIR 中：服务重启后就不再暂停）':
    ' (this cannot be saved in SSH_DIR: after a restart of the service there will be no pause)',
  '已暂停同步，到 {0} 为止；没有同步在进行，变化继续累积{1}':
    'Syncing is paused until {0}; no sync is under way, and changes accumulate{1}',
  '没有暂停：可能从未开始，或已到期': 'There is no pause: it may never have begun, or has expired',
  已按要求结束: 'has ended as requested',
  '已结束自 {0} 起的暂停，继续同步': 'The pause that began at {0} was ended; syncing resumes',

  // src/mirror/rivals.ts
  '另一个 rsync-inotify 也在镜像到此目标: {0}': 'Another rsync-inotify mirrors to this target, too: {0}',
  '{0}。它们会互相覆盖和删除，请只保留一个': "{0}. They overwrite and delete each other's files; keep only one",
  '没有其他 rsync-inotify 镜像到此目标了 ✓': 'No other rsync-inotify mirrors to this target any more ✓',

  // src/mirror/standstill.ts
  '同步已 30 分钟没有任何进展，已中止，将重试':
    'The sync has made no progress for 30 minutes; it was stopped and will be tried again',
  '同步已 {0} 秒没有任何进展。请检查备份端的磁盘和 rsync 进程；有进展后自动继续':
    'The sync has made no progress for {0} s. Check the disk and the rsync processes of the backup; it goes on by itself once there is progress',
  '同步又有进展 ✓': 'The sync makes progress again ✓',

  // src/mirror/remote-renames.ts
  '备份端没有 start-sshd': 'there is no start-sshd on the backup',
  '目标不支持重命名 ({0})，移动的内容将再次传输':
    'The target does not support renaming ({0}); what was moved is transferred again',
  '已在目标上重命名 {0} 项，无需再次传输': 'Renamed on the target without transferring again: {0}',

  // src/mirror/rule-files.ts
  'RSYNC_OPTS 所指的文件 {0}': 'The file {0} named in RSYNC_OPTS',
  '{0} 已更改，立即进行一次全量比较': '{0} has changed; comparing everything once, now',
  '{0} 不见了或无法读取，rsync 因此无法运行。请恢复该文件，之后会自动继续':
    '{0} is gone or cannot be read, so rsync cannot run. Bring the file back, and it goes on by itself',

  // src/mirror/forecast.ts
  '统计待删除的文件时源目录下的挂载点发生了变化，将重新同步':
    'While the files to be deleted were counted, a mount point below the source directory changed; the sync is tried again',
  '退出码: {0}，{1}': 'exit code: {0}, {1}',
  '源目录为空，且无法确定备份是否为空 ({0})，拒绝同步：{1}':
    'The source directory is empty, and it is not known whether the backup is empty ({0}); refused to sync: {1}',
  '源目录为空而备份不为空，为保护备份拒绝同步。请检查源目录的挂载；若确实要清空备份，请设置 ALLOW_EMPTY_SOURCE=true':
    'The source directory is empty and the backup is not: refused to sync, to protect the backup. Check the mount of the source directory; if the backup really is to be emptied, set ALLOW_EMPTY_SOURCE=true',

  // src/mirror/brake.ts
  '待删除的内容比预计的多，已删除 {0} 个后停下，重新统计':
    'There is more to delete than was expected: stopped after {0} deletions, counting again',
  '，而源目录首次见到且几乎为空，可能没有挂载':
    ', while the source directory is seen for the first time and is nearly empty: it may not be mounted',
  '已没有被暂缓的删除，恢复正常同步 ✓': 'No deletions are held any more, mirroring as usual again ✓',
  '，超出一小时内的限额 {0} 个{1}': ', which is more than the limit of {0} within an hour{1}',
  '（已删除 {0} 个）': ' (deleted already: {0})',
  '放行被暂缓的 {0} 个文件的删除，即将全量同步': 'The held deletions are let through (files: {0}); a full sync follows',

  // src/mirror/transfers.ts
  '同步期间源目录下的挂载点发生了变化，为保护备份已中止，将重新同步':
    'a mount point below the source directory changed during the sync, which was stopped to protect the backup; it is tried again',

  // src/mirror/beside.ts
  '大文件另行传输，其余变化照常同步': 'Large files are transferred apart; all other changes are mirrored as usual',
  ' (退出码: {0})': ' (exit code: {0})',
  '大文件另行传输失败{0}，改为照常同步':
    'Transferring large files apart failed{0}; they are mirrored with the others instead',

  // src/mirror/own-line.ts
  文件已改变: 'the file has changed',

  // src/mirror/sender.ts
  '备份端的 rsync 早于 3.1.3 或受 rrsync 限制，不接受纳秒精度：文件时间只比较到整秒；变化的文件不论时间一律发送':
    'rsync on the backup is older than 3.1.3 or restricted by rrsync, and does not take times to the nanosecond: the times of files are compared to the second, and files that have changed are sent whatever their times',
  '待删除的内容在同步期间不断增多，其余部分保留在备份上，将重新同步':
    'there was more and more to delete during the sync; the rest of it stays on the backup, and the sync is tried again',

  // src/mirror/flaws.ts
  '请在 RSYNC_OPTS 或 DEST_RSYNC_OPTS 中加入 --no-owner --no-group（或使用 --chown、--fake-super）':
    'add --no-owner --no-group to RSYNC_OPTS or DEST_RSYNC_OPTS (or use --chown, --fake-super)',
  '请在 RSYNC_OPTS 或 DEST_RSYNC_OPTS 中加入 --no-group（或使用 --chown、--fake-super）':
    'add --no-group to RSYNC_OPTS or DEST_RSYNC_OPTS (or use --chown, --fake-super)',
  '请在 RSYNC_OPTS 或 DEST_RSYNC_OPTS 中加入 --no-perms': 'add --no-perms to RSYNC_OPTS or DEST_RSYNC_OPTS',
  修改时间: 'modification time',
  '请在 RSYNC_OPTS 或 DEST_RSYNC_OPTS 中加入 --omit-dir-times，或检查目标上的权限':
    'add --omit-dir-times to RSYNC_OPTS or DEST_RSYNC_OPTS, or check the permissions on the target',
  '请去掉 RSYNC_OPTS 中的 -A，或只为此目标在 DEST_RSYNC_OPTS 中写 --no-A':
    'remove -A from RSYNC_OPTS, or write --no-A into DEST_RSYNC_OPTS for this target alone',
  '请去掉 RSYNC_OPTS 中的 -X，或只为此目标在 DEST_RSYNC_OPTS 中写 --no-X':
    'remove -X from RSYNC_OPTS, or write --no-X into DEST_RSYNC_OPTS for this target alone',
  '目标上不能设置{0}，例如 {1}：{2}。内容已同步，但它的权限和时间可能也没有设置，会再次传输':
    'The target cannot set this attribute: {0}, for example of {1}: {2}. The content is mirrored, but its permissions and times may not be set either, so that it is transferred again',
  '{0}；若目标的文件系统不支持，{1}': '{0}; if the file system of the target does not support it, {1}',

  // src/mirror/failures.ts
  源目录: 'the source directory',
  '同步 {0}': 'mirror {0}',
  '删除目标上的 {0}': 'delete {0} on the target',
  '无法{0}：{1}。其余照常同步，它将单独重试':
    'Cannot {0}: {1}. All else is mirrored as usual, and this is tried again by itself',
  '另有 {0} 个路径无法同步，未逐条列出': '{0} more paths cannot be mirrored; they are not listed one by one',
  '，其中有过长的路径，请缩短路径，或移走嵌套过深的目录':
    '; there are paths in it that are too long: shorten them, or move directories away that are nested too deeply',
  '，守护进程的 rsyncd.conf 以 exclude 或 filter 排除了它，请在 RSYNC_OPTS 中也排除':
    ': the rsyncd.conf of the daemon leaves it out by exclude or filter; exclude it in RSYNC_OPTS, too',
  '，请检查源目录中它的权限或磁盘': '; check its permissions in the source directory, or the disk',
  '，请检查目标的磁盘空间和 inode': '; check the disk space and the inodes of the target',
  '，请检查目标的磁盘配额': '; check the disk quota on the target',
  '，目标的文件系统放不下这么大的文件': '; the file system of the target does not hold files as large as this',
  '，目标是只读的': '; the target is read-only',
  '，目标的文件系统不支持这么长的名称': '; the file system of the target does not support names as long as this',
  '，目标的文件系统不支持这样的名称': '; the file system of the target does not support such names',
  '，请检查目标上的权限和磁盘': '; check the permissions and the disk on the target',

  // src/mirror/retries.ts
  '{0} 秒后重试，{1} 处变化等待同步': 'Trying again in {0} s; changes waiting for the sync: {1}',

  // src/mirror/recovery.ts
  '路径 {0} 已同步 ✓': 'The path {0} is mirrored now ✓',
  '路径 {0} 是文件系统自用的目录，当前用户无权读取，不同步':
    "The path {0} is a directory of the file system's own that the current user must not read; it is not mirrored",
  '这批变化反复失败，分成小份查找失败的文件，其余先行同步':
    'These changes fail again and again: they are divided into small parts to find the files that fail, and the others are mirrored first',

  // src/mirror/target.ts
  '。恢复之前不再逐次记录，每 5 分钟报告一次': '. Until it is back, this is told every 5 minutes instead of each time',
  '{0} 处变化尚未同步，下次启动时的全量同步会包含它们':
    '{0} changes were not synced; the full sync at the next start includes them',

  // src/mirror/barrier.ts
  '已有 {0} 个 --sync 在等待，请稍后再试':
    '{0} --sync commands are waiting already, which is the limit; try again later',
  '服务正在停止，此前的变化尚未全部到达':
    'The service is stopping, and not everything that happened before has arrived',
  '此前的变化都已到达每个目标 (耗时: {0}秒) ✓': 'Everything that happened before is on every target (took {0} s) ✓',
  '在 {0} 秒内没有全部到达：': 'Not everything has arrived within {0} s:',
  '源目录不见了或被替换，没有在镜像': 'the source directory is gone or was replaced, and nothing is mirrored',
  '备份端已接管，不接收镜像': 'the backup has taken over and receives no mirror',
  '已按要求暂停同步，到 {0} 为止；请先执行 rsync-inotify --resume':
    'syncing is paused as requested until {0}; run rsync-inotify --resume first',
  '正在恢复源目录，暂停同步': 'the source directory is being restored, and syncing is paused',
  尚未得知此前的全部变化: 'not everything that happened before is known yet',
  '缺少 {0} 处变化': 'missing changes: {0}',
  首次全量同步尚未完成: 'the first full sync is not done yet',
  '{0}，同步反复失败，请查看 --status 和日志': '{0}, and syncs fail again and again; see --status and the log',
  '其余变化已到达，暂缓删除 {0} 个文件；确认后请执行 rsync-inotify --accept-deletions':
    'all else has arrived; held deletions: {0}; if they are meant, run rsync-inotify --accept-deletions',
  '其余变化已到达，有 {0} 个路径无法同步{1}': 'all else has arrived; paths that cannot be mirrored: {0}{1}',

  // src/mirror/commands.ts
  '用法错误: --sync 的时长应大于 0': 'Usage error: the duration of --sync should be more than 0',
  '等待此前的变化到达每个目标...': 'Waiting until everything that happened before is on every target...',
  '{0}: 放行 {1} 个文件的删除，主要位于 {2}，随即全量同步':
    '{0}: deletions are let through (files: {1}), most of them in {2}; a full sync follows',
  '无法监听 {0}：{1}': 'Cannot listen on {0}: {1}',
  '{0}。--accept-deletions、--sync、--pause 和 --resume 不可用，镜像不受影响。请检查目录和权限，或更改 STATUS_FILE':
    '{0}. --accept-deletions, --sync, --pause and --resume are not available; the mirror is not affected. Check the directory and its permissions, or change STATUS_FILE',
  '另有内容也在等待确认，这次没有放行：请查看 --status，若同样有意，请再次执行':
    'Something else is waiting to be confirmed and was not let through this time: see --status, and run this again if that is meant, too',
  没有被暂缓的删除: 'No deletions are held',
  '源目录: 以现在的目录为准': 'Source directory: the present one counts from now on',
  '挂载点 {0}: 不再保留其在备份上的内容，随即全量同步':
    'Mount point {0}: what the backup holds of it is no longer kept; a full sync follows',
  '用法错误: --pause 的时长应大于 0；要结束暂停，请执行 rsync-inotify --resume':
    'Usage error: the duration of --pause should be more than 0; to end a pause, run rsync-inotify --resume',
  '已不再开始新的同步，等待正在进行的同步结束...': 'No new sync is begun; waiting for the one under way to finish...',
  '--{0} 之后应只有一个时长': '--{0} takes one duration only',
  '--{0} 之后不应有其他内容': '--{0} takes nothing after it',
  '用法错误: {0}。请参阅 rsync-inotify --help': 'Usage error: {0}. See rsync-inotify --help',

  // src/mirror/comparison.ts
  '挂载点 {0} 没有挂载，其中的内容没有比较':
    'the mount point {0} is not mounted, so what belongs there was not compared',
  'rsync 没有说明比较了多少文件，请检查 RSYNC_OPTS': 'rsync did not say how many files it compared; check RSYNC_OPTS',
  'rsync 没有说明差异是什么，请检查两端 rsync 版本':
    'rsync did not say what the differences are; check the versions of rsync on both sides',
  '{0} (退出码: {1})：{2}': '{0} (exit code: {1}): {2}',

  // src/mirror/readability.ts
  '无法得知哪些文件可读 (rsync 退出码: {0})：{1}': 'cannot tell which files can be read (exit code of rsync: {0}): {1}',

  // src/mirror/verify.ts
  相同: 'equal',
  不同: 'different',
  无法判断: 'cannot tell',
  '{0} 处差异': 'differences: {0}',
  '{0} 个文件': 'files: {0}',
  '耗时: {0}秒': 'took {0} s',
  '，': ', ',
  '：{0}': ': {0}',
  '无法读取 {0} 个文件，例如 {1}': 'files that cannot be read: {0}, for example {1}',
  '{0} 处差异未列出，可能是服务还没有同步的变化，请用 --status 查看':
    'differences that are not listed: {0}; they may be changes that the service has not synced yet, see --status',
  '另有 {0} 个路径一直在变化，未作判断': 'paths that kept changing and were not judged: {0}',
  '差异过多，另有 {0} 处未再次核对': 'too many differences; more that were not checked again: {0}',

  // src/mirror/restore-wish.ts
  '--{0} 之后应为目录': '--{0} should be followed by a directory',
  '{0} 不在 SOURCE_DIR={1} 之内': '{0} is not within SOURCE_DIR={1}',
  '路径太多，请分几次恢复，或指明它们所在的目录':
    'too many paths; restore them in several goes, or name the directory that they are in',

  // src/mirror/restore.ts
  另一个恢复正在进行: 'another restore is under way',
  '无法恢复到 {0}：{1}': 'Cannot restore to {0}: {1}',
  '需要在 SSH_DIR 中加锁，使服务暂停同步：{0}。请使 SSH_DIR 可写，或用 --to 恢复到别处':
    'a lock in SSH_DIR is needed to have the service pause: {0}. Make SSH_DIR writable, or use --to to restore to another place',
  '只恢复其中的路径，请逐一指明；要在现有内容之上恢复全部（例如继续中断的恢复），请指明 .（rsync-inotify --restore .）':
    'To restore only some paths, name each of them; to restore everything over what is there (to go on with a restore that was interrupted, for example), name . (rsync-inotify --restore .)',
  '目录不是空的。{0}': 'the directory is not empty. {0}',
  '没有权能 {0}，无法恢复文件的属主。容器中请先停止源端，再执行 docker compose run --rm --cap-add CHOWN --cap-add FOWNER --cap-add FSETID --cap-add MKNOD --cap-add SETFCAP rsync-source rsync-inotify --restore，其后的参数与这次相同':
    'The capability {0} is missing, so the owners of files cannot be restored. With containers, stop the source first, then run docker compose run --rm --cap-add CHOWN --cap-add FOWNER --cap-add FSETID --cap-add MKNOD --cap-add SETFCAP rsync-source rsync-inotify --restore and the same arguments behind it',
  '服务由另一个用户（{0}）运行，请以该用户执行 --restore，或用 --to 恢复到源目录之外':
    'The service is run by another user ({0}): run --restore as that user, or use --to to restore outside the source directory',
  '正在运行的服务没有暂停，不能恢复到源目录：{0}':
    'The running service has not paused, so nothing can be restored into the source directory: {0}',
  '等待正在进行的同步结束...': 'Waiting for the sync under way to finish...',
  '没有可以登录的备份主机，没有恢复。请检查备份端是否运行、网络和密钥':
    'No backup host could be logged in to, so nothing was restored. Check the network and the key, and that the backup is running',
  '无法登录 {0}：{1}': 'Cannot log in to {0}: {1}',
  '{0} {1}，改从下一个备份恢复': '{0} {1}; restoring from the next backup instead',
  从备份恢复: 'Restoring from the backup',
  '备份目录: {0}': 'Directory of the backup: {0}',
  '恢复到: {0}': 'Restoring to: {0}',
  '路径: {0}': 'Paths: {0}',
  '文件读写错误，请检查本机的磁盘空间、目录和权限':
    'error in file I/O: check the disk space of this host, the directory and its permissions',
  'rsync 协议数据流错误，请检查网络、备份端和本机的磁盘空间':
    'error in the rsync protocol data stream: check the network, the backup and the disk space of this host',
  '部分内容没有恢复，请查看上面 rsync 的错误信息': 'some of it was not restored: see the error messages of rsync above',
  '恢复没有完成 (退出码: {0})：{1}': 'The restore is not complete (exit code: {0}): {1}',
  '已取回全部内容，正在按校验和与备份比较...': 'Everything was fetched; comparing it with the backup by checksum...',
  '恢复完成，与备份相同 ({0} 个文件，耗时: {1}秒) ✓':
    'Restore finished, equal to the backup (files: {0}, took {1} s) ✓',
  '恢复后与备份有 {0} 处不同；期间可能有程序在写入，请停止它们后再次恢复':
    'After the restore, {0} differences from the backup were found; programs may have been writing meanwhile: stop them and restore again',

  // src/backup/status.ts
  日志未逐条记录的登录: 'logins not in the log',
  所在的磁盘没有挂载: 'is on a disk that is not mounted',
  无法写入: 'cannot be written to',
  正在核对上次是否正常停止或卸载: 'is being checked for whether it was left cleanly and unmounted last time',
  所在的文件系统是只读的: 'is on a read-only file system',
  所在的磁盘已满: 'is on a disk that is full',
  所在的磁盘几乎已满: 'is on a disk that is nearly full',
  '所在的磁盘没有空闲的 inode，不能再创建文件': 'is on a disk without free inodes, so no more files can be created',
  的磁盘配额已用完: 'has used up its disk quota',
  '，剩余 {0}': ', {0} left',
  正在启动: 'starting',
  '没有源端公钥，源端无法登录': 'there is no public key of the source, so the source cannot log in',
  '目标目录 {0} {1}': 'destination {0} {1}',
  '多个 rsync-inotify 同时镜像到 {0}，请只保留一个':
    'several rsync-inotify mirror at the same time into {0}; keep only one',
  '目标目录 {0} 所在的磁盘没有应答': 'the disk of the destination {0} does not answer',
  '健康: 备份端已接管，自 {0} 起不接收镜像': 'healthy: the backup has taken over and has received no mirror since {0}',
  '健康: SSH 服务运行中，{0} 个连接': 'healthy: the SSH service is running, connections: {0}',
  '，{0} 个正在进行': ', reading now: {0}',
  允许恢复: 'restore allowed',
  '到 {0} 为止{1}': 'until {0}{1}',
  正在统计: 'being counted',
  '{0} 个，占用 {1}': '{0}, taking {1}',
  旧版本: 'older versions',
  '{0}，保留 {1} 天': '{0}, kept for {1} days',
  接管: 'taken over',
  '自 {0} 起不接收镜像，直到 start-sshd --demote': 'since {0}; no mirror is received until start-sshd --demote',
  'SSH 服务': 'SSH service',
  'PID {0}，{1}，端口 {2}': 'PID {0}, {1}, port {2}',
  所有地址: 'all addresses',
  目标目录: 'destination',
  '（{0}）': ' ({0})',
  源端公钥: "source's public key",
  连接: 'connections',
  最近接收: 'last received',
  拒绝的命令: 'refused commands',

  // src/backup/config.ts
  '应为目录的完整路径；~ 不会展开，不能包含双引号和控制字符':
    'should be the full path of a directory; ~ is not expanded, and neither double quotes nor control characters are allowed',
  '应为 0 到 9999 之间的天数': 'should be a number of days from 0 to 9999',
  'authorized_keys 所在目录；其他人的公钥保留不变': 'where authorized_keys is; the keys of others in it are kept',
  '主机密钥所在目录；缺少的会生成。其中的 destination.json 记着 DEST_DIR 所在的挂载点，destination-….json 记着独占磁盘的源端所在的挂载点，shutdown-….json 记着它是否正常停止，promoted-….json 是 --promote 的标记':
    'where the host keys are; missing ones are generated. In it, destination.json remembers the mount point of DEST_DIR, destination-….json that of a source that has a disk for itself, shutdown-….json whether it was left cleanly, and promoted-….json is the mark of --promote',
  'sshd 监听的端口': 'port on which sshd listens',
  'sshd 监听的 IP 地址，默认为所有地址': 'IP address on which sshd listens; all addresses if not set',
  '接收镜像的目录，启动时若不存在则创建，除非它原来所在的磁盘没有挂载':
    'directory that receives the mirror; made at the start if missing, unless the disk that it was on is not mounted',
  '等待源端公钥的次数，每次 2 秒': 'tries while waiting for the public key of the source, 2 seconds each',
  'true = 源端密钥可以执行任意命令，而不只是镜像到 DEST_DIR':
    'true = the key of the source may run any command, not only mirror into DEST_DIR',
  '拒绝源端使用的 rsync 选项，写法同 rsyncd.conf(5) 的 refuse options，例如 inplace；no-whole-file = 总是传输整个文件':
    'rsync options that the source may not use, written as in refuse options of rsyncd.conf(5), for example inplace; no-whole-file = always transfer whole files',
  '旧版本和已删除的文件在 DEST_DIR/.history 中保留多少天；0 = 不保留':
    'how many days older versions and deleted files are kept in DEST_DIR/.history; 0 = not at all',
  ' /metrics 和 /healthz': '/metrics and /healthz',
  'ALLOW_SHELL=true 时无法保留旧版本：源端可以随意改写它们；请去掉其中一个':
    'older versions cannot be kept with ALLOW_SHELL=true: the source could change them at will. Remove one of the two',
  '已用于 SSHD_PORT，请使用不同的端口': 'is used by SSHD_PORT already; use different ports',
  [`{0} {1}：运行 sshd，接收 rsync-inotify 的镜像

用法: start-sshd [--help | --version | --check | --status | --healthcheck]
      start-sshd --history [路径] [--source 名称]
      start-sshd --recover [路径…] --at 时间 --to 空目录 [--source 名称]
      start-sshd --allow-restore [时长] [--source 名称]
      start-sshd --promote | --demote [--source 名称]
      start-sshd --notify-test
  --check         检查配置和所需程序后退出
  --status        显示正在运行的服务的状态
  --healthcheck   用一行说明备份端能否接收镜像；退出状态 0 能，1 不能
  --history       列出旧版本（HISTORY_DAYS）：何时被替换或删除、大小、路径
  --recover       把 DEST_DIR 或其中的路径恢复成某一时刻的样子，放入一个空目录；
                  时间为本地时间或 ISO 8601，例如 "2025-10-09 12:00:00"

  --allow-restore 允许源端在这段时间内读取 DEST_DIR，以便 rsync-inotify --restore 取回数据；
                  默认 1h，例如 90s、10m、2h、1d，最长 7d，0s 立即结束；服务停止时也随之结束
  --promote       备份端接管：从现在起不接收镜像，重启后也不，直到 --demote；服务没有运行时同样可用
  --demote        重新接收镜像：源端随即比较全部内容，并以源端的内容为准
  --source        多个源端（SOURCE_NAME）中的一个：其旧版本、读取和接管都只涉及 DEST_DIR/名称；
                  --promote 和 --demote 不带 --source 时涉及全部源端
  --notify-test   向 NOTIFY_URL 的每个 URL 发送一份测试报告，并说明收到的应答；退出状态 0 都已接受，1 没有

环境变量（名称、默认值、说明）:
{2}

退出状态: 0 收到 SIGTERM/SIGINT/SIGHUP 后停止；1 启动步骤失败、缺少程序或 sshd 退出；2 配置或用法错误
`]: `{0} {1}: runs sshd, to receive the mirror of rsync-inotify

Usage: start-sshd [--help | --version | --check | --status | --healthcheck]
       start-sshd --history [PATH] [--source NAME]
       start-sshd --recover [PATH…] --at TIME --to EMPTY_DIRECTORY [--source NAME]
       start-sshd --allow-restore [DURATION] [--source NAME]
       start-sshd --promote | --demote [--source NAME]
       start-sshd --notify-test
  --check         check the configuration and the required programs, then exit
  --status        show the state of the running service
  --healthcheck   say in a line whether the backup can receive the mirror; exit status 0 if so, 1 if not
  --history       list older versions (HISTORY_DAYS): when each was replaced or deleted, its size and path
  --recover       put DEST_DIR, or paths of it, as it was at a certain time into an empty directory;
                  the time is local time or ISO 8601, for example "2025-10-09 12:00:00"

  --allow-restore let the source read DEST_DIR for so long, so that rsync-inotify --restore can fetch data;
                  1h by default, for example 90s, 10m, 2h, 1d, at most 7d, 0s ends it at once; it also ends with the service
  --promote       the backup takes over: from now on it receives no mirror, nor after a restart, until --demote;
                  works without a running service, too
  --demote        receive the mirror again: the source then compares everything, and what the source has counts
  --source        one of several sources (SOURCE_NAME): older versions, reading and the takeover then concern
                  DEST_DIR/NAME alone; --promote and --demote without it concern all sources
  --notify-test   send a test report to each URL of NOTIFY_URL and say what came back; exit status 0 all have accepted it, 1 not

Environment variables (name, default, meaning):
{2}

Exit status: 0 stopped by SIGTERM/SIGINT/SIGHUP; 1 a step of the start failed, a program is missing or sshd exited; 2 bad configuration or usage
`,

  // src/backup/renames.ts
  '{0} 应为不含 . 和 .. 的相对路径': '{0} should be a relative path without . and ..',
  旧版本不能改动: 'older versions cannot be changed',
  '路径超过 {0} 字节': 'a path is longer than {0} bytes',
  最后一对路径不完整: 'the last pair of paths is incomplete',

  // src/backup/errands.ts
  '一次超过 {0} 项': 'more than {0} items at a time',
  只能重命名或删除: 'only renaming and deleting is possible',
  一批操作不完整: 'a batch of operations is incomplete',
  目标目录还不存在: 'the destination does not exist yet',

  // src/backup/commands.ts
  '--allow-restore 之后应只有一个时长': '--allow-restore takes one duration only',

  // src/backup/receiver-options.ts
  '“{0}” 不是源端可以使用的 rsync 选项；应为选项的名称或字母，例如 inplace append checksum':
    '"{0}" is not an rsync option that the source can use; should be the name or letter of an option, for example inplace append checksum',
  '不能包含 {0}：每次镜像都需要它': 'must not contain {0}: every mirror needs it',
  '-{0}（--{1}）': '-{0} (--{1})',

  // src/backup/promotion-mark.ts
  '无法写入 {0}：{1}。请检查 HOST_KEY_DIR 的权限和磁盘空间':
    'Cannot write {0}: {1}. Check the permissions of HOST_KEY_DIR and the disk space',

  // src/backup/confinement.ts
  '{0} 不在 DEST_DIR={1} 之内': '{0} is not within DEST_DIR={1}',
  目标目录在检查时被替换: 'the destination was replaced while it was being checked',
  'Landlock 没有生效': 'Landlock did not take effect',
  '内核拒绝了 mount_setattr（Linux 5.12 起）': 'the kernel refused mount_setattr (Linux 5.12 or later)',
  '挂载点 {0} 上的设备文件仍可打开': 'device files on the mount point {0} can still be opened',

  // src/backup/sender-options.ts
  '恢复时不允许 rsync 选项 {0}': 'the rsync option {0} is not allowed in a restore',
  '恢复时 rsync 命令应有一个目录，或同一目录中的若干路径':
    'in a restore, the rsync command should have one directory, or paths in one directory',

  // src/backup/admission.ts
  '备份端已接管 (start-sshd --promote)，不接收镜像，直到在备份端执行 {0}':
    'the backup has taken over (start-sshd --promote) and receives no mirror until {0} is run on the backup',
  '无法写入 {0}：{1}。请检查磁盘空间': 'Cannot write {0}: {1}. Check the disk space',
  '只能经由 start-sshd 启动的 sshd 使用': 'may only be used through an sshd that start-sshd has started',
  登录所用的公钥已不再有效: 'the public key of this login is no longer in force',
  '这个连接所属的 start-sshd 已停止': 'the start-sshd that this connection belongs to has stopped',

  // src/backup/history-door.ts
  '{0} 已存在，却不是 start-sshd 的版本目录：请在源端改名或排除它，并从备份中移走':
    "{0} exists but is not start-sshd's directory for older versions: rename or exclude it on the source, and move it out of the backup",
  '{0} 在保存旧版本的 {1} 之内，源端不能使用':
    '{0} is within {1}, where older versions are kept; the source cannot use it',
  '备份端已设置 HISTORY_DAYS，由它保留旧版本，不允许 rsync 选项 {0}：请从 RSYNC_OPTS 中去掉':
    'HISTORY_DAYS is set on the backup, which keeps older versions by itself; the rsync option {0} is not allowed: remove it from RSYNC_OPTS',

  // src/backup/session-reports.ts
  源端的名称无效: 'the name of the source is invalid',

  // src/backup/destination.ts
  '目标目录 {0} 无法写入：{1}。请检查 DEST_DIR 和权限':
    'The destination {0} cannot be written to: {1}. Check DEST_DIR and its permissions',
  '{0} 在 DEST_DIR={1} 之内：源端可以改写或删除它。请更改其中一个':
    '{0} is within DEST_DIR={1}: the source can change or delete it. Change one of the two',
  '{0} 在 DEST_DIR={1} 之内：源端可以改写其中的密钥。请更改其中一个':
    '{0} is within DEST_DIR={1}: the source can change the keys in it. Change one of the two',

  // src/backup/ceiling.ts
  '（此类记录一小时内不再逐条写入，只计数）': ' (within this hour, further records of this kind are only counted)',
  '首次 {0}，末次 {1}': 'first {0}, last {1}',
  '{0}：另有 {1} 条未逐条记录（{2}）': '{0}: {1} more were not logged one by one ({2})',

  // src/backup/sources.ts
  同时镜像到同一目录的源端: 'Sources that mirror into the same directory',
  '多个 rsync-inotify 同时镜像到 {0}：{1}': 'Several rsync-inotify mirror into {0} at the same time: {1}',
  '。它们会互相覆盖和删除，请只保留一个{0}': ". They overwrite and delete each other's files; keep only one{0}",
  '只有一个 rsync-inotify 镜像到 {0} 了 ✓': 'Only one rsync-inotify mirrors into {0} now ✓',

  // src/backup/leave.ts
  源端的读取: 'Reads by the source',
  '允许源端读取 {0} 以恢复数据，到 {1} 为止': 'The source may read {0} to restore data until {1}',
  '，已中断 {0} 个正在进行的读取': '; reads that were cut off: {0}',
  '恢复的许可{0}：源端不能再读取 {1}{2}': 'The permission to restore {0}: the source can no longer read {1}{2}',
  '源端开始读取 {0}': 'The source begins to read {0}',
  '源端读取 {0} 结束': 'The source has finished reading {0}',
  '恢复的许可已结束：源端不能读取 {0}': 'The permission to restore has ended: the source cannot read {0}',
  '源端现在可以读取 {0}，到 {1} 为止': 'The source may now read {0}, until {1}',

  // src/backup/reports.ts
  '目标目录不区分文件名的大小写，rsync 若在传输之后删除，会误删只改了大小写的文件：--delete-after 和 --delete-delay 按 --delete-during 执行':
    'The destination does not tell names apart that differ in letter case only; deleting after the transfer, rsync would delete files whose letter case has changed: --delete-after and --delete-delay are carried out as --delete-during',
  '未采用源端的 --block-size（-B）：块的长度由备份端的 rsync 自行决定，因为极小的块的校验和会泄露文件内容；镜像不受影响':
    '--block-size (-B) of the source was not used: rsync on the backup decides on the length of blocks, for checksums of very small blocks give the content of files away. The mirror is not affected',
  拒绝执行的命令: 'Refused commands',
  因命令过多而拒绝执行的命令: 'Commands refused because too many were running',
  缺少保护的命令: 'Commands without full protection',
  '拒绝执行的命令不会记入日志：{0}': 'Refused commands will not be logged: {0}',
  '源端的命令{0}': 'A command of the source {0}',
  '拒绝执行源端的命令：{0}': 'Refused a command of the source: {0}',
  '拒绝执行源端的命令：{0}（同样原因的不再逐条记录）':
    'Refused a command of the source: {0} (further ones for the same reason are not logged)',

  // src/backup/slots.ts
  '{0} 无法启动': 'cannot start {0}',

  // src/backup/history-guard.ts
  '不能移动、替换或删除 DEST_DIR/{0} 中的旧版本，也不能改动其权限、属主和时间。若不是误操作，源端的密钥可能已被盗用':
    'older versions in DEST_DIR/{0} must not be moved, replaced or deleted, nor their permissions, owners and times be changed. If this was no mistake, the key of the source may have been stolen',
  '可能删除它自己刚保留的旧版本：内核不允许查看 rsync 的请求':
    'may delete older versions that it has just kept itself: the kernel does not let the requests of rsync be inspected',

  // src/backup/sender-session.ts
  '请在备份主机上执行 start-sshd --allow-restore，再执行 rsync-inotify --restore':
    'run start-sshd --allow-restore on the backup host, then rsync-inotify --restore',
  '备份端现在不允许读取：{0}': 'the backup does not allow reading now: {0}',
  '{0} 在保存旧版本的 {1} 之内，只有恢复出的目录可以读取':
    '{0} is within {1}, where older versions are kept; only recovered directories may be read',
  '{0} 不能读取': '{0} must not be read',
  '{0} 不是备份中的目录': '{0} is not a directory of the backup',
  目录在检查时被替换: 'the directory was replaced while it was being checked',
  '内核没有 Landlock（Linux 5.19 起），也不能建立挂载命名空间，无法限制读取的范围，因此不允许恢复':
    'the kernel has no Landlock (Linux 5.19 or later) and mount namespaces cannot be made either, so what is read cannot be limited; therefore restoring is not allowed',
  '本机没有 rsync': 'rsync is not installed on this host',
  'start-sshd: 恢复的许可已结束，读取已中断：{0}\n':
    'start-sshd: the permission to restore has ended and reading was cut off: {0}\n',

  // src/backup/forced-command.ts
  'start-sshd: 拒绝执行：{0}\n': 'start-sshd: refused: {0}\n',
  '{0}。命令: {1}': '{0}. Command: {1}',
  '源端密钥的命令已有 {0} 个在运行，达到上限，请稍后重试':
    "{0} commands of the source's key are running already, which is the limit; try again later",
  '不提供 shell': 'there is no shell',
  '可能被备份内的链接引到 DEST_DIR 之外：{0}': 'may be led out of DEST_DIR by links within the backup: {0}',
  '可能打开备份内的设备文件：{0}': 'may open device files within the backup: {0}',
  '命令超过 {0} 字节': 'the command is longer than {0} bytes',
  '命令包含控制字符或不是 UTF-8': 'the command contains control characters or is not UTF-8',
  引号或反斜杠没有配对: 'a quote or a backslash has no counterpart',
  '只允许 rsync 向本机写入镜像': 'only rsync may run here, to write the mirror',
  'rsync 命令不完整': 'the rsync command is incomplete',
  'REFUSE_OPTIONS 不允许 rsync 选项 {0}': 'REFUSE_OPTIONS forbids the rsync option {0}',
  'rsync 命令应只有一个目标目录': 'the rsync command should have one destination only',
  '不允许 rsync 选项 {0}': 'the rsync option {0} is not allowed',

  // src/backup/authorized-keys.ts
  '共享卷没有应答: {0}。已授权的公钥继续有效':
    'The shared volume does not answer: {0}. The public key that is authorized stays in force',
  '{0}：{1}': '{0}: {1}',
  'RSA 公钥应至少有 {0} 位': 'an RSA public key should have at least {0} bits',
  '无法写入 {0}：{1}。请检查 SSH_DIR 的权限和磁盘空间':
    'Cannot write {0}: {1}. Check the permissions of SSH_DIR and the disk space',

  // src/backup/sshd-options.ts
  'sshd 配置无效：': 'The configuration of sshd is invalid:',
  '它会放宽 start-sshd 的设置：{0}': 'it would loosen settings of start-sshd: {0}',
  '未采用 {0}：{1}': '{0} is not used: {1}',

  // src/backup/remnants.ts
  '接收镜像的进程 {0} 没有正常结束（例如被 kill -9，或因内存不足被系统终止）':
    'The receiving process {0} did not end properly (kill -9, for example, or the system ended it for lack of memory)',
  '它没有写完的临时文件 {0}': 'the temporary file that it had not finished, {0}',
  '{0}，已删除{1}': '{0}; deleted {1}',
  '{0}，无法删除{1}：{2}。请手工删除': '{0}; cannot delete {1}: {2}. Delete it by hand',

  // src/backup/strays.ts
  '已结束上次运行遗留的 {0} 个源端命令：其连接已不在':
    'Ended commands of the source that a former run had left behind, whose connections are gone: {0}',

  // src/backup/visits.ts
  '来自 {0} 的会话频繁，另有 {1} 次登录未逐条记录（{2}）':
    'Sessions from {0} come and go all the time: {1} more logins were not logged one by one ({2})',

  // src/backup/sshd.ts
  'sshd 的登录记录': 'Logins recorded by sshd',
  'sshd 的其他输出': 'Other output of sshd',
  '运行目录 {0} 被他人替换。请重新启动 start-sshd':
    'The run directory {0} was replaced by somebody else. Restart start-sshd',
  'sshd 启动失败 (退出码: {0})': 'sshd could not be started (exit code: {0})',
  '端口 {0} 已被占用。请停止占用它的程序，或更改 SSHD_PORT':
    'Port {0} is in use. Stop the program that uses it, or change SSHD_PORT',
  'sshd 意外退出 (退出码: {0})': 'sshd exited unexpectedly (exit code: {0})',
  '无法在 {0} 中创建运行目录，请检查权限和磁盘空间':
    'Cannot make a run directory in {0}. Check the permissions and the disk space',

  // src/backup/crowd.ts
  因连接过多而断开连接: 'Connections cut because there were too many',
  '连接多达 {0} 个，超过上限 {1} 个，已断开其中 {2} 个':
    'There were {0} connections, more than the limit of {1}; cut: {2}',

  // src/backup/stalls.ts
  '接收镜像的进程 {0} 已被暂停 {1} 秒，已结束它，由源端重试':
    'The receiving process {0} has been suspended for {1} s; it was ended, and the source tries again',
  '接收镜像的进程 {0} 等待磁盘已 {1} 秒。请检查 DEST_DIR 所在的磁盘；它应答后镜像自动继续':
    'The receiving process {0} has been waiting for the disk for {1} s. Check the disk of DEST_DIR; the mirror goes on by itself once it answers',
  '接收镜像的进程 {0} 等待源端已 {1} 秒，已结束它，由源端重试':
    'The receiving process {0} has been waiting for the source for {1} s; it was ended, and the source tries again',
  '接收镜像的进程 {0} 又有进展 ✓': 'The receiving process {0} makes progress again ✓',

  // src/backup/inner-mounts.ts
  ' 等': ' and others',
  '新挂载 {0}': 'newly mounted: {0}',
  '已卸载 {0}': 'unmounted: {0}',

  // src/backup/guard.ts
  '{0} 无法使用。请检查备份端的 DEST_DIR 和权限':
    '{0} cannot be used. Check DEST_DIR and its permissions on the backup',
  '{0} 正在核对上次是否正常停止；若没有，先查找断电时可能损坏的文件，然后接收':
    '{0} is being checked for whether it was left cleanly; if it was not, files that a power cut may have damaged are looked for before anything is received',
  'start-sshd 正在停止': 'start-sshd is stopping',
  '{0} 上次没有正常停止或卸载（例如断电），{1} 之后写入的 {2} 个文件可能内容不完整':
    '{0} was not left cleanly or not unmounted last time (a power cut, for example): files written after {1} may be incomplete: {2}',
  '{0}，已把它们的修改时间提前一天，由源端重新核对内容':
    '{0}. Their modification times were set back by a day, so that the source compares their content',
  '{0}；其中 {1} 个无法修改，请检查权限，并在源端运行 --verify':
    '{0}. Files that could not be changed: {1}. Check the permissions, and run --verify on the source',
  '{0} 的文件系统曾被卸载又重新挂载，已由源端重新比较':
    'The file system of {0} was unmounted and mounted again; the source compares everything anew',
  '{0} 又是启动时的目录，恢复接收镜像 ✓':
    '{0} is again the directory that it was at the start; receiving the mirror again ✓',
  '{0}。在此之前拒绝接收镜像': '{0}. Until then no mirror is received',
  '挂载点 {0}（{1}），': 'mount point {0} ({1}), ',
  '，创建于 {0}': ', created at {0}',
  '启动时: {0}inode {1}{2}': 'at the start: {0}inode {1}{2}',
  '{0} 已不是启动时的目录（{1}）。请检查挂载；若是有意更换，请重启 start-sshd':
    '{0} is no longer the directory that it was at the start ({1}). Check the mount; if it was replaced on purpose, restart start-sshd',
  '{0} 所在的磁盘没有挂载：此前位于挂载点 {1}，现在那里没有挂载任何文件系统':
    'The disk of {0} is not mounted: it was at the mount point {1}, where no file system is mounted now',
  '{0}。请挂载，服务随即恢复，否则请重启它；若已不再使用该挂载点，请删除 {1}':
    '{0}. Mount it: the service goes on by itself, or else restart it. If that mount point is no longer used, delete {1}',
  '{0} 可以使用了，开始接收镜像 ✓': '{0} can be used now; receiving the mirror ✓',
  '上次: 挂载点 {0}；现在: 挂载点 {1}': 'last time: mount point {0}; now: mount point {1}',
  '{0} 所在的文件系统与上次启动时不同（{1}）。源端会比较全部文件':
    '{0} is on another file system than at the last start ({1}). The source will compare all files',
  '请检查 HOST_KEY_DIR 的权限和磁盘空间': 'Check the permissions of HOST_KEY_DIR and the disk space',
  '无法写入 {0}：{1}。{2}': 'Cannot write {0}: {1}. {2}',
  '{0} 之内的挂载有变化（{1}）': 'The mounts within {0} have changed ({1})',
  '{0}，已断开源端，由它重新比较': '{0}. The source was disconnected and compares everything anew',
  '{0} 中的文件被删除，例如被清理临时文件的程序，已重新写入':
    'Files in {0} were deleted, by a cleaner of temporary files for example; they were written again',

  // src/backup/promotion-marks.ts
  '{0}（全部源端）': '{0} (all sources)',

  // src/backup/promotion.ts
  '备份端已接管，源端的一切命令都被拒绝，也不能恢复。请先停止源端的服务，再执行 {0}，然后重新执行本命令；或从本机用 rsync-inotify 镜像到源端':
    'The backup has taken over and refuses all commands of the source, so nothing can be restored either. Stop the service of the source first, run {0}, then run this command again; or mirror from this host to the source with rsync-inotify',
  '接管标记已写入，但源端的命令还没有全部结束（例如磁盘没有应答），仍可能写入。请稍后再次执行 {0}':
    'The mark of the takeover is written, but some commands of the source have not ended yet (the disk does not answer, for example) and may still write. Run {0} again in a while',
  '备份端已接管 DEST_DIR={0}，自 {1} 起': 'The backup has taken over DEST_DIR={0}, since {1}',
  '{0}：不接收镜像，直到 {1}': '{0}: it receives no mirror until {1}',
  'DEST_DIR={0} 重新接收镜像：源端随即比较全部内容，并以源端的内容为准':
    'DEST_DIR={0} receives the mirror again: the source then compares everything, and what the source has counts',
  'DEST_DIR={0} 没有被接管，照常接收镜像': 'DEST_DIR={0} was not taken over; it receives the mirror as usual',
  '无法得知备份端是否已接管，或无法照此执行：{0}。请检查 HOST_KEY_DIR 和 SSH_DIR':
    'Cannot tell whether the backup has taken over, or cannot act on it: {0}. Check HOST_KEY_DIR and SSH_DIR',

  // src/backup/key-sessions.ts
  '已断开全部 {0} 个连接及其命令': 'all connections were cut, with their commands: {0}',
  '源端公钥已更换，原公钥 {0} 不再有效：{1}':
    'The public key of the source was replaced, and the former one, {0}, is no longer in force: {1}',
  '源端公钥的行已从 authorized_keys 中删除，公钥不再有效：{0}':
    "The line of the source's public key was removed from authorized_keys, and the key is no longer in force: {0}",
  'authorized_keys 中源端公钥的行已被修改：{0}，由源端重新登录':
    "The line of the source's public key in authorized_keys was changed: {0}. The source logs in again",

  // src/backup/history.ts
  '内核不支持 seccomp 的通知（Linux 5.19 起），或被容器占用或禁止（Docker 23 以前）：不是 rsync 的客户端可能使一次传输丢掉它自己刚保留的旧版本。请升级内核或容器引擎，或另做 DEST_DIR 的快照':
    'The kernel has no notifications for seccomp (Linux 5.19 or later), or the container uses or forbids them (Docker before 23): a client that is not rsync could make a transfer lose older versions that it has just kept itself. Upgrade the kernel or the container engine, or take snapshots of DEST_DIR as well',
  '若不是误操作，源端的密钥可能已被盗用': 'If this was no mistake, the key of the source may have been stolen',
  '源端移动了 {0} 中的 {1} 个旧版本，已放回原处。{2}':
    'In {0}, the source has moved older versions, which were put back: {1}. {2}',
  '{0} 中有不属于它的内容: {1}。请在源端改名或排除名为 {2} 的目录':
    '{0} holds what does not belong to it: {1}. Rename or exclude directories named {2} on the source',
  '无法整理 {0} 中的旧版本：{1}。请检查权限和磁盘':
    'Cannot tidy up the older versions in {0}: {1}. Check the permissions and the disk',
  '本机时钟与实际经过的时间相差约 {0} 小时（现在显示 {1}）':
    'The clock of this host differs from the time that has really passed by about {0} h (it shows {1} now)',
  '{0}：旧版本按实际经过的时间保留，不会因此提前删除。请检查时钟':
    '{0}. Older versions are kept by the time that really passes, so none is deleted early. Check the clock',
  '无法记下时间，旧版本可能多保留一天：{0}。请检查 HOST_KEY_DIR':
    'Cannot note the time, so older versions may be kept a day longer: {0}. Check HOST_KEY_DIR',
  '退出状态 {0}': 'exit status {0}',

  // src/backup/history-listing.ts
  被替换或删除于: 'replaced or deleted at',
  路径: 'path',

  // src/backup/history-answers.ts
  '--history 和 --recover 不能同时使用': '--history and --recover cannot be used together',
  '无法读取 DEST_DIR={0}：{1}': 'Cannot read DEST_DIR={0}: {1}',
  '应为 --history [路径]': 'should be --history [PATH]',
  '没有旧版本\n': 'There are no older versions\n',
  '--at {0} 应为本地时间或 ISO 8601，例如 "2025-10-09 12:00:00" 或 2025-10-09T12:00:00Z':
    '--at {0} should be local time or ISO 8601, for example "2025-10-09 12:00:00" or 2025-10-09T12:00:00Z',
  '应为 --recover [路径…] --at 时间 --to 目录': 'should be --recover [PATH…] --at TIME --to DIRECTORY',
  '它在 DEST_DIR={0} 之内，下一次镜像会删除它（{1} 之下的目录除外）':
    'it is within DEST_DIR={0}, where the next mirror deletes it (but not below {1})',
  目录不是空的: 'the directory is not empty',
  '无法恢复到 {0}：{1}。请给出一个空目录': 'Cannot recover to {0}: {1}. Name an empty directory',
  '已把 {0} 时的内容恢复到 {1}：{2} 个文件，{3} 个目录':
    'Recovered what there was at {0} to {1} (files: {2}, directories: {3})',
  '当时的旧版本可能已过期，或尚未开始保留：此后被替换或删除的文件可能缺失或较新':
    'The older versions of that time may have expired, or keeping them had not begun: files that were replaced or deleted since may be missing or newer',
  '的版本可能已被精简，恢复的是此前最近的版本，也可能当时并不存在':
    'Versions that may have been thinned out: the nearest earlier one was recovered, and the file may not have existed at that time',
  '无法得知当时是否已存在（内层挂载，或文件系统不记录创建时间）':
    'Files of which it is not known whether they existed at that time (an inner mount, or a file system that records no time of creation)',
  '的属主、时间或扩展属性未能完全恢复':
    'Files whose owner, times or extended attributes could not be recovered completely',
  未能恢复: 'Files that could not be recovered',
  '无法得知：当时为空、现已不在的目录；其后只改动过的属主、权限和时间':
    'Not known: directories that were empty then and are gone now; owners, permissions and times that alone were changed since',
  '  … 另有 {0} 个': '  … and {0} more',
  '{0} 个文件{1}:': '{1} ({0}):',

  // src/backup/door-choice.ts
  ' 等 {0} 个': ' and others, {0} in all',
  '用法错误: 本备份端有多个源端，请用 --source 指明一个：{0}。请参阅 {1} --help':
    'Usage error: this backup has several sources; name one of them with --source: {0}. See {1} --help',
  '已知的源端：{0}': 'The sources that are known: {0}',
  '本备份端没有带名称（SOURCE_NAME）的源端': 'This backup has no source with a name (SOURCE_NAME)',
  '用法错误: 没有名为 {0} 的源端。{1}': 'Usage error: there is no source named {0}. {1}',

  // src/backup/source-status.ts
  '没有源端 {0} 的公钥，它无法登录（若已不再使用，请移走 {1}）':
    'there is no public key of the source {0}, which cannot log in (if it is not used any more, move {1} away)',
  '多个名为 {0} 的 rsync-inotify 同时镜像到 {1}，请只保留一个':
    'several rsync-inotify named {0} mirror into {1} at the same time; keep only one of them',
  '备份端已接管源端 {0}，不接收它的镜像，直到执行 {1}':
    'the backup has taken over from the source {0} and receives no mirror of it until {1}',
  '已接管，自 {0} 起': 'taken over since {0}',
  没有公钥: 'no key',
  重复: 'doubled',
  '允许恢复，到 {0} 为止': 'may restore until {0}',
  正常: 'well',
  '，{0} 个源端': ', sources: {0}',
  '，其中 {0} 个已被接管': ', taken over: {0}',
  源端: 'source',
  公钥: 'key',
  '…另有 {0} 个问题，见 --status': '… and {0} more problems, see --status',

  // src/backup/promotion-answers.ts
  '用法错误: --promote 和 --demote 不能同时使用。请参阅 {0} --help':
    'Usage error: --promote and --demote cannot be used together. See {0} --help',
  '服务没有运行，或 STATUS_FILE 不同；{0} 从下次启动起生效':
    'The service is not running, or has another STATUS_FILE; {0} takes effect at its next start',
  '没有 start-sshd 曾以 HOST_KEY_DIR={0} 和 DEST_DIR={1} 运行，标记不会起作用':
    'no start-sshd has ever run with HOST_KEY_DIR={0} and DEST_DIR={1}, so the mark would have no effect',
  '服务没有运行，且{0}。请带上服务的环境变量执行，或在服务运行时执行':
    'The service is not running, and {0}. Run this with the environment variables of the service, or while the service is running',

  // reports
  '{0}正常时，每分钟请求（GET）一次此 URL': 'requested (GET) once a minute while the {0} is healthy',
  镜像: 'mirror',
  备份端: 'backup',
  '出现故障和恢复时，向这些 URL 发送报告，以空格分隔；钉钉、飞书、企业微信、ntfy 和 Slack 按主机名识别，其他为 JSON':
    'URLs that problems and recoveries are reported to, separated by spaces; DingTalk, Feishu, WeCom, ntfy and Slack are known by their host, others get JSON',
  '故障持续这么久（秒）才报告': 'seconds that a problem must have lasted before it is reported',
  '目标目录: {0}': 'destination: {0}',
  '源目录: {0}': 'source: {0}',
  '备份端已接管，不接收镜像，直到执行 start-sshd --demote':
    'the backup has taken over and receives no mirror until start-sshd --demote',
  '无法请求 HEARTBEAT_URL ({0})：{1}。每分钟重试': 'Cannot request HEARTBEAT_URL ({0}): {1}. Tried again every minute',
  'HEARTBEAT_URL 恢复应答': 'HEARTBEAT_URL answers again',
  '无法读取 {0}，不记得已报告过的故障：{1}': 'Cannot read {0}, so that what was reported before is not known: {1}',
  '{0}。重启后，仍在持续的故障会再报告一次': '{0}. After a restart, what is still wrong will be reported once more',
  '应含有 {0}=…': 'needs {0}=…',
  '应以 /hook/ 和令牌结尾': 'has to end in /hook/ and a token',
  应以主题名结尾: 'has to end in the name of a topic',
  应含有完整的路径: 'needs its whole path',
  '最多 {0} 个 URL': 'there may be {0} URLs at most',
  '第 {0} 个 URL {1}': 'URL {0} {1}',
  '的格式前缀应为 {0} 之一': 'should have one of these forms in front: {0}',
  天: 'd',
  小时: 'h',
  分: 'min',
  秒: 's',
  '0 秒': '0 s',
  '【故障】{0} {1}，自 {2} 起，已持续 {3}': '[PROBLEM] {0}: {1}, since {2}, for {3} so far',
  '{0} 至 {1}': '{0} to {1}',
  '【恢复】{0} {1}，{2}，持续 {3}': '[RECOVERED] {0}: {1}, {2}, for {3}',
  '故障 {0}': 'problem {0}',
  '{0} 个故障': '{0} problems',
  '恢复 {0}': 'recovered {0}',
  '{0} 个恢复': '{0} recovered',
  '…另有 {0} 条，见 --status': '… and {0} more, see --status',
  '【测试】test 这是一条测试报告，一切照常，{0}': '[TEST] test: this is a test report, and nothing is wrong, {0}',
  '{0} @ {1}：测试 test': '{0} @ {1}: test',
  '已向 {0} 报告 {1} 个故障、{2} 个恢复': 'Reported to {0}; problems: {1}, recoveries: {2}',
  '无法向 {0} 发送报告：{1}。将继续重试': 'Cannot send a report to {0}: {1}. It will be tried again',
  '没有设置 NOTIFY_URL，没有可以发送测试报告的地方': 'NOTIFY_URL is not set: there is nowhere to send a test report to',
  'NOTIFY_URL 的第 {0} 个 ({1} {2})': 'NOTIFY_URL {0} ({1} {2})',
  '{0} 没有接受测试报告：{1}': '{0} has not accepted the test report: {1}',
  '{0} 已接受测试报告：{1}': '{0} has accepted the test report: {1}',
  'HTTP {0}，重定向到 {1}；为了不泄露令牌，不跟随重定向，请填写最终的 URL':
    'HTTP {0}, a redirect to {1}, which is not followed, so that no other host gets the token: give the final URL',
  '{0} 秒内没有完整的应答': 'no complete answer within {0} s',
  '找不到主机 ({0})，请检查主机名和 DNS': 'the host cannot be found ({0}): check its name and the DNS',
  '无法验证它的证书 ({0})；自建服务的证书可由 NODE_EXTRA_CA_CERTS 指明':
    'its certificate cannot be verified ({0}); NODE_EXTRA_CA_CERTS can name one of your own',
  '连接被拒绝 ({0})': 'the connection was refused ({0})',
  '连接被中断 ({0})': 'the connection was cut ({0})',
  '无法发送 ({0})': 'it cannot be sent ({0})',
  '应为以 http:// 或 https:// 开头的完整 URL': 'should be a full URL that begins with http:// or https://',
  '配置错误: {0}=***：{1}': 'Configuration error: {0}=***: {1}',
  // several sources: src/backup/source-keys.ts, doors.ts, door-rooms.ts, src/mirror/claims.ts
  '{0} 不存在或不是目录，不接收镜像：请在备份端检查，移走占用此名称的文件或链接':
    '{0} is missing or no directory, so nothing is received: check it on the backup, and move away a file or link of that name',
  '{0} 是链接或文件，不是目录。请在备份端移走它，或改用另一个 SOURCE_NAME':
    '{0} is a link or a file and no directory. Move it away on the backup, or choose another SOURCE_NAME',
  '{0} 没有应答，请检查磁盘': '{0} does not answer; check the disk',
  '源端 {0}：{1}': 'Source {0}: {1}',
  '已断开它的 {0} 个连接及其命令': 'its {0} connections were ended with their commands',
  '{0}。现公钥: {1}。若不是有意更换，请检查共享卷':
    '{0}. The key is now {1}. If nobody has meant to replace it, check the shared volume',
  '{0} 已不是原来的目录：{1}，由源端重新比较':
    '{0} is another directory than before: {1}, and the source compares anew',
  '其中有 {0} 个公钥文件，只查看前 {1} 个，请删除不再使用的':
    'there are {0} files of public keys in it, of which the first {1} are looked at; delete those that are no longer used',
  '源端的名称应为{0}': 'The name of a source must be {0}',
  未生效的源端公钥: 'public keys of sources that are not in force',
  要用已有名称的主机: 'hosts that want a name that another one has',
  '另一台主机也要用这个名称，它的公钥 {0}（{1}）没有生效，生效的仍是 {2}':
    'Another host wants this name, too; its key {0} ({1}) is not in force, that is {2} as before',
  '请给它另一个 SOURCE_NAME；若它已不再需要这个名称，请删除共享卷中的 sources/{0}{1}':
    'Give it another SOURCE_NAME; if it does not need the name any more, delete sources/{0}{1} on the shared volume',
  '无法记下源端的名称：{0}。请检查 HOST_KEY_DIR 的权限和磁盘空间':
    'Cannot remember the name of the source: {0}. Check the permissions of HOST_KEY_DIR and the disk space',
  '忽略了 {0}：{1}': 'Ignored {0}: {1}',
  '源端 {0} 的目录已移走，由没有名字的源端取代':
    'The directory of source {0} was moved away, and a source without a name takes its place',
  '与源端 {0} 只有大小写或末尾的点不同，在 exFAT 等磁盘上是同一个目录。请改用另一个 SOURCE_NAME':
    'The name differs from that of source {0} in letter case or in dots at the end only, which is the same directory on exFAT and other disks. Choose another SOURCE_NAME',
  '源端已有 {0} 个，达到上限': 'There are {0} sources already, which is the limit',
  '该公钥已用于源端 {0}。每个源端须有自己的密钥对（SSH_DIR），不能复制':
    'This key is in force for source {0}. Each source needs a key pair of its own (SSH_DIR) that is no copy',
  '没有名字的源端改用名称 {0}': 'The source without a name is called {0} from now on',
  '源端 {0} 改用名称 {1}': 'Source {0} is called {1} from now on',
  '源端 {0} 的公钥文件和目录都已移走': 'Both the key file and the directory of source {0} were moved away',
  '{0}：公钥 {1} 不再用于它，已断开 {2} 个连接':
    '{0}: the key {1} is no longer in force for it, and {2} connections were ended',
  '没有名字的源端会删除具名源端（{0}）在 {1} 之下的备份':
    'A source without a name would delete what the sources with names ({0}) have below {1}',
  '{0}。请给它设置 SOURCE_NAME；若要改为只有它一个，请先删除共享卷中 sources/ 里的公钥文件，并移走这些名称的目录':
    '{0}. Set SOURCE_NAME for it; if it is to be the only one, delete the key files in sources/ on the shared volume first, and move the directories of these names away',
  '已有一个没有名字的源端镜像到 {0}，它会删除具名源端的备份。请给它也设置 SOURCE_NAME；若它已不再使用，请删除共享卷中的 id_rsa.pub':
    'A source without a name mirrors into {0} and would delete what a source with a name has there. Set SOURCE_NAME for that one, too; if it is no longer used, delete id_rsa.pub on the shared volume',
  'SOURCE_NAME={0} 已被占用: {1}': 'SOURCE_NAME={0} is taken: {1}',
  '请改用另一个 SOURCE_NAME；若由本机取代原来的源端，请先停止它，再删除该文件，然后重启本服务':
    'Choose another SOURCE_NAME; if this host takes the place of that source, stop that one first, then delete the file and restart this service',
  '{0} 中是另一个源端的公钥 {1}（{2}），本机的是 {3}。{4}':
    '{0} holds the public key {1} of another source ({2}), and that of this host is {3}. {4}',
  '{0} 不是公钥文件。{1}': '{0} is no file of a public key. {1}',
  '应为{0}，例如 web1': 'must be {0}, e.g. web1',
  '多个源端镜像到同一备份时本源端的名称：公钥发布为 sources/名称.pub，镜像位于各目标目录下以它命名的目录':
    "this source's name where several mirror to one backup: its key is published as sources/NAME.pub, and its mirror lies in the directory of that name on each target",
  '，源端名称: {0}': ', source name: {0}',
  '源端名称: {0}': 'Source name: {0}',
  '1 到 64 个字母、数字和 . _ -，不以 . 或 - 开头':
    '1 to 64 letters, digits and . _ -, without . or - at its beginning',
};
