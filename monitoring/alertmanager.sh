#!/bin/sh
# Starts Alertmanager with alertmanager.yml, whose receiver is what ALERT_WEBHOOK_URL names: one URL, or several between spaces. Whoever has
# such a URL can send messages by it, so neither it nor any part of it is printed, and only this user may read the file that it is written to.
#
#   ALERT_WEBHOOK_URL=https://example.org/hook sh alertmanager.sh alertmanager --storage.path=/alertmanager
set -euf
LC_ALL=C
umask 077

# Says something in Chinese, or with LOG_LANG=en in English.
say() { [ "${LOG_LANG:-zh}" != en ] || shift; echo "alertmanager.sh: $1" >&2; }

refuse() { say "ALERT_WEBHOOK_URL 中的第 $number 个地址$1" "URL $number of ALERT_WEBHOOK_URL $2"; exit 2; }

# What receivers of each kind are to be told; those without it tell their own.
text="text: '{{ range .Alerts }}*{{ .Annotations.summary }}*{{ \"\\n\" }}{{ .Annotations.description }}{{ \"\\n\" }}{{ end }}'"
webhooks='' slacks='' discords='' number=0
for url in ${ALERT_WEBHOOK_URL:-}; do
  number=$((number + 1))
  case $url in *[!!-~]*) refuse '含有不能出现在 URL 中的字符，请用 %XX 表示' 'holds characters that no URL may hold: write them as %XX' ;; esac
  form=
  case $url in
    slack+* | ntfy+*) form=${url%%+*} url=${url#*+} ;; # one's own server, as in NOTIFY_URL
    https://hooks.slack.com/?* | https://hooks.slack-gov.com/?*) form=slack ;;
    https://ntfy.sh/?* | https://*@ntfy.sh/?*) form=ntfy ;;
    https://discord.com/api/webhooks/?* | https://discordapp.com/api/webhooks/?*) form=discord ;;
    https://oapi.dingtalk.com/* | https://open.feishu.cn/* | https://open.larksuite.com/* | https://qyapi.weixin.qq.com/*)
      refuse '是钉钉、飞书或企业微信的机器人，它们不认 Alertmanager 的格式：请把它设为两个程序的 NOTIFY_URL，或在中间加一个转换程序' \
        'is a robot of DingTalk, Feishu or WeCom, which cannot read what Alertmanager sends: make it the NOTIFY_URL of the two programs, or put a bridge between' ;;
  esac
  case $url in
    http://[!/?#]* | https://[!/?#]*) ;;
    *) refuse '应以 http:// 或 https:// 开头，后面是主机名' 'is to begin with http:// or https:// and a host' ;;
  esac
  case $form$url in ntfy*[?]*) ;; ntfy*) url="$url?template=alertmanager" ;; esac # or ntfy would show it as it is sent
  quoted=\'$(printf %s "$url" | sed "s/'/''/g")\'
  case $form in
    slack) slacks="$slacks
      - api_url: $quoted
        send_resolved: true
        $text" ;;
    discord) discords="$discords
      - webhook_url: $quoted" ;;
    *) webhooks="$webhooks
      - url: $quoted" ;;
  esac
done
unset ALERT_WEBHOOK_URL

config=$(mktemp "${TMPDIR:-/tmp}/alertmanager-XXXXXX")
{
  cat "$(dirname "$0")/alertmanager.yml"
  if [ -n "$webhooks" ]; then printf '%s\n' "    webhook_configs:$webhooks"; fi
  if [ -n "$slacks" ]; then printf '%s\n' "    slack_configs:$slacks"; fi
  if [ -n "$discords" ]; then printf '%s\n' "    discord_configs:$discords"; fi
} >"$config"
[ "$number" -gt 0 ] || say '没有设置 ALERT_WEBHOOK_URL：告警只显示在页面上，不发给任何人' \
  'ALERT_WEBHOOK_URL is not set: alerts are shown on its page and sent to nobody'

exec "$@" --config.file="$config"
