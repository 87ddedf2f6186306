"""Line-level cleaning: the furniture of pages that is not the document.

A rule is a pattern that is searched in the stripped line, with triggers: short strings of which
every line that the pattern matches holds at least one. A numba kernel looks for the triggers in
the bytes (`corpus.clean.prefilter`), so a pattern runs only on lines that hold one of its own.
Lines in fenced code, display formulas and tables are never touched.

The patterns were written by reading pages; the kinds of furniture follow the rules that the
XuanYuan report names and those of C4 and MNBVC.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

LONGEST_LINE = 600  # visible characters: beyond, a line is text and is not looked at


@dataclass(frozen=True)
class LineRule:
    """Lines to remove."""

    name: str
    pattern: re.Pattern[str]
    """Searched in the stripped line; it is anchored where the whole line must match."""
    triggers: tuple[str, ...]
    """Each of two characters (three, if both are ASCII) or more; case does not matter."""
    longest: int
    """Visible characters of the longest line that the rule may remove."""


def _rule(name: str, longest: int, triggers: str, *patterns: str) -> LineRule:
    words = tuple(word.replace("_", " ") for word in triggers.split())
    return LineRule(name, re.compile("|".join(patterns), re.I), words, longest)


_GAP = r"[\s|｜>›»→·•/、,，\-—:：\[\]【】()（）]*"
_NAVIGATION = (
    r"(?:网站|返回|回到|我的)?(?:"
    r"首页|主页|上一页|下一页|上一篇|下一篇|上页|下页|末页|尾页|顶部|列表|网站地图|站内搜索|友情链接|"
    r"关于我们|联系我们|加入我们|加入收藏|设为首页|收藏本站|收藏|登录|登陆|注册|忘记密码|退出|购物车|"
    r"我的订单|打印|打印本页|关闭|关闭窗口|隐私政策|服务条款|使用条款|意见反馈|帮助中心|人才招聘|"
    r"手机版|电脑版|客户端|下载APP|简体|繁体|English|RSS|更多|搜索)"
)
_ENGLISH_NAVIGATION = (
    r"(?:home|menu|search|log ?in|sign ?in|sign ?up|register|about(?: us)?|contact(?: us)?|"
    r"privacy(?: policy)?|terms(?: of (?:use|service))?|site ?map|help|faq|careers|"
    r"skip to (?:main )?content|back to top|print this page|previous|next|rss|subscribe)"
)
_PLACES = (
    r"(?:微信|微博|朋友圈|QQ空间|QQ好友|豆瓣|人人网|Facebook|Twitter|LinkedIn|WhatsApp|Email|"
    r"Pinterest|Reddit|复制链接|点赞|收藏|分享|评论|举报)"
)

RULES: tuple[LineRule, ...] = (
    _rule(
        "navigation",
        120,
        "首页 主页 一页 一篇 上页 下页 末页 尾页 顶部 列表 网站 站内 友情 关于 联系 加入 设为 收藏 "
        "登录 登陆 注册 忘记 退出 购物 我的 打印 关闭 隐私 服务 使用 意见 帮助 人才 手机 电脑 客户 "
        "下载 简体 繁体 English RSS 更多 搜索 返回 回到 "
        "home menu search login log_ sign register about contact privacy terms site help faq "
        "careers skip back print previous next subscribe",
        rf"^{_GAP}(?:{_NAVIGATION}{_GAP})+$",
        rf"^{_GAP}(?:{_ENGLISH_NAVIGATION}(?:{_GAP}|$)){{2,}}$",
    ),
    _rule(
        "breadcrumb",
        80,
        "位置",
        r"^[【\[]?(?:您|你)?(?:现在|当前|目前)?(?:所在|的)?(?:的)?位置[】\]]?\s*[:：]",
    ),
    _rule(
        "share-bar",
        80,
        "分享 转发 微信 微博 朋友 豆瓣 人人 点赞 收藏 评论 举报 复制 QQ空 QQ好 "
        "share facebook twitter linkedin whatsapp email pinterest reddit",
        r"^(?:(?:一键)?分享(?:到|至)|分享[:：]|转发(?:到|至)).{0,60}$",
        r"^share (?:this|on|via|to)\b.{0,60}$",
        rf"^(?:{_PLACES}[\s|·/、,]*){{2,}}$",
    ),
    _rule(
        "copyright",
        160,
        "版权 著作 © copyright rights 转载 引用 谢绝 禁止 严禁 未经 链接 地址 网址",
        r"版权所有(?!人|者|权)",
        r"著作权所有|©|&copy;",
        r"\bcopyright\s*(?:\(c\)|©|\d{4}|by\b)",
        r"\ball rights reserved\b",
        r"(?:转载|引用)请(?:注明|标明|联系)|(?:谢绝|禁止|严禁)(?:任何)?转载",
        r"未经.{0,12}(?:许可|授权|允许|同意).{0,12}(?:不得|禁止|严禁|请勿).{0,8}(?:转载|摘编|镜像|翻印)",
        r"^(?:本文|文章)?(?:链接|地址|网址)[:：]\s*https?://\S+$",
    ),
    _rule(
        "icp",
        160,
        "ICP 公网 增值 网络 互联 不良 有害",
        r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼]?ICP\s*[备证]",
        r"公网安备\s*\d",
        r"(?:增值电信业务|网络文化|网络传播视听节目|互联网新闻信息服务)(?:经营)?许可证.{0,6}[:：号].{0,4}\d",
        r"(?:不良信息|有害信息)举报(?:电话|邮箱|热线|中心|入口)",
    ),
    _rule(
        "editor",
        40,
        "责任 责编 编辑 校对 审校 初审 复审 终审 监制 排版",
        r"^[（(\[【]?\s*(?:责任编辑|值班编辑|实习编辑|本文编辑|文字编辑|网络编辑|编辑|责编|校对|审校|"
        r"责任校对|初审|复审|终审|监制|排版)\s*[:：丨|/].{0,24}$",
    ),
    _rule(
        "read-more",
        40,
        "点击 阅读 查看 展开 加载 浏览 收起 read load show view see_",
        r"^.{0,4}(?:点击|阅读|查看|展开|加载|浏览|收起)(?:此处|这里|下方|上方|链接)?(?:查看|阅读|展开)?"
        r"(?:更多|全文|原文|余下|详情|全部|详细)(?:内容|文章|信息|资讯|精彩|新闻)?[^。，,；;]{0,6}$",
        r"^(?:read (?:more|the full (?:story|article))|load more|show more|view all|see more)\b"
        r".{0,20}$",
    ),
    _rule(
        "follow-us",
        120,
        "扫码 扫一 扫描 二维 长按 关注 公众 微信 follow subscribe sign",
        r"扫码(?:关注|添加|加群|下载|进群|咨询|领取)",
        r"扫(?:一扫|描)(?:上方|下方|右侧|左侧|以下|上图|下图)?的?二维码",
        r"长按(?:识别|扫描)?(?:上方|下方|图中)?二维码",
        r"关注(?:我们|我|本站|官方)?的?(?:官方)?(?:微信)?公众号|微信公众号\s*[:：]|微信(?:扫一扫|扫码)",
        r"\bfollow us on\b|\bsubscribe to (?:our|the) (?:newsletter|channel)\b|\bsign up for our\b",
    ),
    _rule(
        "contact-advertisement",
        50,
        "QQ: QQ： QQ群 QQ号 QQ_ QQ交 QQ1 QQ2 QQ3 QQ4 QQ5 QQ6 QQ7 QQ8 QQ9 扣扣 企鹅 微信 薇信 "
        "威信 V信 VX: VX： VX_ wechat",
        r"(?:QQ|扣扣|企鹅|微信|薇信|威信|V信|VX|WeChat)(?:交流)?(?:群|号|号码|客服)?\s*[:：+＋]?\s*"
        r"(?:[1-9][0-9]{4,10}|[a-zA-Z][\w-]{5,19}|\[(?:QQ|WECHAT|MOBILE)\])(?![\w@.])",
    ),
    _rule(
        "related-links",
        30,
        "相关 推荐 热门 延伸 更多 精彩 猜你 往期 最新 related you_may recommended",
        r"^[#*\s【\[]*(?:相关|推荐|热门|延伸|更多|精彩|猜你喜欢|往期|最新)"
        r"(?:阅读|文章|推荐|新闻|链接|标签|资讯|回顾|精选|帖子|评论|内容)\s*[】\]*]*\s*[:：]?$",
        r"^(?:related (?:articles?|posts?|stories|links)|you may also like|recommended for you)"
        r"\s*:?$",
    ),
    _rule(
        "counter",
        50,
        "阅读 浏览 点击 访问 评论 点赞 收藏 转发 回复 人气",
        r"^[（(\[【]?(?:(?:阅读|浏览|点击|访问|评论|点赞|收藏|转发|回复|人气)(?:次数|量|数)?\s*"
        r"[:：(（]?\s*\d[\d,.]*\s*[万千wk+]*\s*(?:次|人|条)?[)）]?[\s|·/]*)+[】\]]?$",
    ),
    _rule(
        "browser-notice",
        160,
        "浏览 javascript cookies",
        r"(?:您|你)的浏览器(?:版本)?(?:过低|不支持|太旧)|请(?:启用|开启|打开)\s*(?:浏览器)?.{0,6}javascript",
        r"\b(?:enable|requires?|activate) javascript\b|\bjavascript (?:is|must be) (?:dis|en)abled",
        r"\b(?:we|this (?:web)?site) uses? cookies\b|\baccept (?:all )?cookies\b",
    ),
    _rule(
        "contents-entry",
        120,
        ".... …… ···· ._. ·_· …._",
        r"^.{1,70}?(?:[.．]{4,}|…{2,}|·{4,}|(?:[.·…] ){4,})[.．…· ]*\d{1,4}$",
    ),
    _rule(
        "disclaimer",
        LONGEST_LINE,
        "报告 分析 作者 研究 不构 并非 不作 股市 市场 投资 免责 法律 重要 评级 阅读 参阅 "
        "this_r this_d past_p",
        r"^(?:本|该|此)?(?:研究)?报告(?:版权|仅供|仅提供|仅向|所载|所依据|中的信息|的信息|不构成|采用信息)",
        r"(?:分析师|作者|署名分析师|研究员).{0,30}(?:执业资格|职业操守|勤勉|独立.{0,4}客观).{0,120}"
        r"(?:报告|观点|补偿|报酬)",
        r"(?:不构成|并非|不作为).{0,20}(?:买卖|投资|要约|操作).{0,12}(?:建议|依据|邀请|出价|要约|意见)",
        r"(?:股市|市场|投资)有风险[,，]?\s*(?:入市|投资)(?:需|须|应)谨慎",
        r"^(?:免责(?:声明|条款)|分析师(?:声明|承诺|简介)|法律声明|重要声明|投资评级(?:说明|定义)?|评级说明)[:：]?$",
        r"请(?:务必|仔细)?(?:阅读|参阅).{0,20}(?:免责|重要|法律|披露|评级|特别).{0,6}(?:声明|条款|说明|信息)",
        r"\bthis (?:report|document) (?:is|has been|was) (?:prepared|issued|published) "
        r".{0,80}(?:information|only)",
        r"\bpast performance is (?:not|no) .{0,40}(?:future|guarantee)",
    ),
)

REPEATED_LINE = "repeated-line"
PAGE_NUMBER = "page-number"
RUNNING_HEADER = "running-header"
NAMES = frozenset({rule.name for rule in RULES} | {REPEATED_LINE, PAGE_NUMBER, RUNNING_HEADER})


def matching_rule(line: str, visible: int, mask: int, unwanted: Sequence[str] = ()) -> str | None:
    """The name of the rule that removes this stripped line of `visible` characters, if any.

    `mask` has the bits of the rules whose triggers the line may hold; rules named in `unwanted`
    are not tried.
    """
    for bit, rule in enumerate(RULES):
        if (
            mask >> bit & 1
            and visible <= rule.longest
            and rule.name not in unwanted
            and rule.pattern.search(line)
        ):
            return rule.name
    return None


@cache
def triggers() -> dict[str, int]:
    """Each trigger, in lower case, with the bits of its rules."""
    bits: dict[str, int] = {}
    for bit, rule in enumerate(RULES):
        for trigger in rule.triggers:
            bits[trigger.lower()] = bits.get(trigger.lower(), 0) | 1 << bit
    return bits
