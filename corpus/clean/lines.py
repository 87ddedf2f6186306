"""Line-level cleaning: the furniture of pages that is not the document.

A rule is a pattern that a whole line must match or contain, with triggers: short strings of which
every line that the pattern matches holds at least one. A numba kernel looks for the triggers in
the bytes (`corpus.clean.prefilter`), so patterns run on the few lines that may match. Lines in
fenced code, display formulas and tables are never touched.
"""

import re
from dataclasses import dataclass
from functools import cache

LONGEST_LINE = 160  # visible characters; furniture is short, and a paragraph is never furniture


@dataclass(frozen=True)
class LineRule:
    """Lines to remove."""

    name: str
    pattern: re.Pattern[str]
    """Tried with `search` on the stripped line; anchor it where the whole line must match."""
    triggers: tuple[str, ...]
    """Two Han characters or three ASCII ones and more; case does not matter."""
    longest: int = LONGEST_LINE
    """Visible characters of the longest line that the rule may remove."""


_SEPARATOR = r"[\s|｜>›»→·•/、,，\-—:：\[\]【】()（）]*"
_NAVIGATION_WORD = (
    r"(?:网站|返回|回到|我的)?(?:首页|主页|上一页|下一页|上一篇|下一篇|上页|下页|末页|尾页|顶部|列表|"
    r"网站地图|站内搜索|友情链接|关于我们|联系我们|加入我们|加入收藏|设为首页|收藏本站|收藏|"
    r"登录|登陆|注册|忘记密码|退出|购物车|我的订单|打印|打印本页|关闭|关闭窗口|隐私政策|服务条款|使用条款|"
    r"意见反馈|帮助中心|人才招聘|手机版|电脑版|客户端|下载APP|简体|繁体|English|RSS|更多|搜索)"
)
_ENGLISH_NAVIGATION = (
    r"(?:home|menu|search|log ?in|sign ?in|sign ?up|register|about(?: us)?|contact(?: us)?|"
    r"privacy(?: policy)?|terms(?: of (?:use|service))?|sitemap|site map|help|faq|careers|"
    r"skip to (?:main )?content|back to top|print this page|previous|next|rss|subscribe)"
)

RULES: tuple[LineRule, ...] = (
    LineRule(
        "navigation",
        re.compile(rf"^{_SEPARATOR}(?:{_NAVIGATION_WORD}{_SEPARATOR})+$", re.I),
        ["首页", "主页", "一页", "一篇", "上页", "下页", "末页", "尾页", "顶部", "列表", "网站", "站内", "友情", "关于", "联系", "加入", "设为", "收藏", "登录", "登陆", "注册", "忘记", "退出", "购物", "我的", "打印", "关闭", "隐私", "服务", "使用", "意见", "帮助", "人才", "手机", "电脑", "客户", "下载", "简体", "繁体", "English", "RSS", "更多", "搜索", "返回", "回到"],
        80,
    ),
    LineRule(
        "navigation",
        re.compile(rf"^{_SEPARATOR}(?:{_ENGLISH_NAVIGATION}(?:{_SEPARATOR}|$)){{2,}}$", re.I),
        ["home", "menu", "search", "login", "log", "sign", "register", "about", "contact", "privacy", "terms", "sitemap", "site", "help", "faq", "careers", "skip", "back", "print", "previous", "next", "rss", "subscribe"],
        120,
    ),
    LineRule(
        "breadcrumb",
        re.compile(r"^[【\[]?(?:您|你)?(?:现在|当前|目前)?(?:所在|的)?(?:的)?位置[】\]]?\s*[:：]"),
        ("位置",),
        80,
    ),
    LineRule(
        "share-bar",
        re.compile(
            r"^(?:(?:一键)?分享(?:到|至)|分享[:：]|转发(?:到|至)|share (?:this|on|via|to)\b).{0,60}$|"
            r"^(?:(?:微信|微博|朋友圈|QQ空间|QQ好友|豆瓣|人人网|Facebook|Twitter|LinkedIn|WhatsApp|"
            r"Email|Pinterest|Reddit|复制链接|点赞|收藏|分享|评论|举报)[\s|·/、,]*){2,}$",
            re.I,
        ),
        ("分享", "转发", "share", "微信", "微博", "朋友", "豆瓣", "人人", "facebook", "twitter",
         "linkedin", "whatsapp", "email", "pinterest", "reddit", "复制", "点赞", "收藏", "评论",
         "举报", "QQ空间"),
        80,
    ),
    LineRule(
        "copyright",
        re.compile(
            r"版权所有(?!人|者|权)|著作权所有|©|&copy;|\bcopyright\s*(?:\(c\)|©|\d{4}|by\b)|"
            r"\ball rights reserved\b|(?:转载|引用)请(?:注明|标明|联系)|(?:谢绝|禁止|严禁)(?:任何)?转载|"
            r"未经.{0,12}(?:许可|授权|允许|同意).{0,12}(?:不得|禁止|严禁|请勿).{0,8}(?:转载|复制|摘编|镜像|翻印)|"
            r"^(?:本文|文章)?(?:链接|地址|网址)[:：]\s*https?://\S+$",
            re.I,
        ),
        ("版权", "著作", "©", "copyright", "rights", "转载", "引用", "谢绝", "禁止", "严禁", "未经",
         "链接", "地址", "网址"),
        120,
    ),
    LineRule(
        "icp",
        re.compile(
            r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼]?ICP\s*[备证]|公网安备\s*\d|"
            r"(?:增值电信业务|网络文化|信息网络传播视听节目|互联网新闻信息服务)(?:经营)?许可证.{0,6}[:：号].{0,4}\d|"
            r"(?:不良信息|违法和不良信息|有害信息)举报(?:电话|邮箱|热线|中心|入口)",
            re.I,
        ),
        ("ICP", "公网", "增值", "网络", "互联", "不良", "有害", "信息"),
        160,
    ),
    LineRule(
        "editor",
        re.compile(
            r"^[（(\[【]?\s*(?:责任?编辑?|责任编辑|值班编辑|实习编辑|本文编辑|文字编辑|网络编辑|编辑|责编|"
            r"校对|审校|责任校对|初审|复审|终审|监制|排版)\s*[:：丨|/].{0,24}$"
        ),
        ("责任", "责编", "编辑", "校对", "审校", "初审", "复审", "终审", "监制", "排版"),
        40,
    ),
    LineRule(
        "read-more",
        re.compile(
            r"^.{0,4}(?:点击|阅读|查看|展开|加载|浏览|收起)(?:此处|这里|下方|上方|链接)?(?:查看|阅读|展开)?"
            r"(?:更多|全文|原文|余下|详情|全部|详细)(?:内容|文章|信息|资讯|精彩|新闻)?.{0,6}$|"
            r"^(?:read (?:more|the full (?:story|article))|load more|show more|view all|see more)\b.{0,20}$",
            re.I,
        ),
        ("点击", "阅读", "查看", "展开", "加载", "浏览", "收起", "read", "load", "show", "view", "see"),
        30,
    ),
    LineRule(
        "follow-us",
        re.compile(
            r"扫码(?:关注|添加|加群|下载|进群|咨询|领取)|扫(?:一扫|描)(?:上方|下方|右侧|左侧|以下|上图|下图)?的?二维码|"
            r"长按(?:识别|扫描)?(?:上方|下方|图中)?二维码|(?:欢迎|敬请|请|点击|快来|记得)?关注(?:我们|我|本站|官方)?的?"
            r"(?:官方)?(?:微信)?公众号|微信公众号\s*[:：]|微信(?:扫一扫|扫码)|"
            r"\bfollow us on\b|\bsubscribe to (?:our|the) (?:newsletter|channel)\b|\bsign up for our\b",
            re.I,
        ),
        ("扫码", "扫一", "扫描", "二维", "长按", "关注", "公众", "微信", "follow us", "subscribe",
         "sign up"),
        80,
    ),
    LineRule(
        "contact-advertisement",
        re.compile(
            r"(?:加|联系|咨询|客服|交流|商务|合作|请加)?\s*(?:QQ|扣扣|企鹅|微信|薇信|威信|V信|VX|WeChat)"
            r"(?:群|号|号码|交流群|客服)?\s*[:：+＋]?\s*(?:[1-9][0-9]{4,10}|[a-zA-Z][\w-]{5,19})(?![\w@.])",
            re.I,
        ),
        ("QQ:", "QQ：", "QQ群", "QQ号", "扣扣", "企鹅", "微信", "薇信", "威信", "V信", "VX:", "VX：",
         "wechat", "QQ ", "加QQ", "QQ1", "QQ2", "QQ3", "QQ4", "QQ5", "QQ6", "QQ7", "QQ8", "QQ9"),
        50,
    ),
    LineRule(
        "related-links",
        re.compile(
            r"^[#*\s【\[]*(?:相关|推荐|热门|延伸|更多|精彩|猜你喜欢|往期|最新)(?:阅读|文章|推荐|新闻|链接|"
            r"标签|资讯|回顾|精选|帖子|评论|内容)?\s*[】\]*]*\s*[:：]?$|"
            r"^(?:related (?:articles?|posts?|stories|links)|you may also like|recommended for you)\s*:?$",
            re.I,
        ),
        ("相关", "推荐", "热门", "延伸", "更多", "精彩", "猜你", "往期", "最新", "related", "you may",
         "recommended"),
        30,
    ),
    LineRule(
        "counter",
        re.compile(
            r"^[（(\[【]?(?:(?:阅读|浏览|点击|访问|评论|点赞|收藏|转发|回复|人气)(?:次数|量|数)?\s*"
            r"[:：(（]?\s*\d[\d,.]*\s*[万千wk+]*\s*(?:次|人|条)?[)）]?[\s|·/]*)+[】\]]?$",
            re.I,
        ),
        ("阅读", "浏览", "点击", "访问", "评论", "点赞", "收藏", "转发", "回复", "人气"),
        50,
    ),
    LineRule(
        "browser-notice",
        re.compile(
            r"(?:您|你)的浏览器(?:版本)?(?:过低|不支持|太旧)|请(?:启用|开启|打开)\s*(?:浏览器)?.{0,6}javascript|"
            r"\b(?:enable|requires?|activate) javascript\b|\bjavascript (?:is|must be) (?:disabled|enabled)|"
            r"\b(?:we|this (?:web)?site) uses? cookies\b|\baccept (?:all )?cookies\b",
            re.I,
        ),
        ("浏览", "javascript", "cookies"),
    ),
    LineRule(
        "page-number",
        re.compile(
            r"^(?:第\s*\d{1,4}\s*页(?:\s*[,，/]?\s*[(（]?共\s*\d{1,4}\s*页[)）]?)?|"
            r"[-—–~]{1,2}\s*\d{1,4}\s*[-—–~]{1,2}|[1-9]-[1-9](?:-[1-9])?-\d{1,4}|"
            r"\d{1,4}\s*/\s*\d{1,4}|page\s+\d{1,4}(?:\s+of\s+\d{1,4})?|[ivxl]{1,6})$",
            re.I,
        ),
        (),
        24,
    ),
    LineRule(
        "contents-entry",
        re.compile(r"^.{1,70}?(?:[.．]{5,}|…{2,}|·{5,}|(?:[.·…] ){5,})\s*\d{1,4}$"),
        ("....", "……", "····", ". . ", "· · "),
    ),
)  # fmt: skip

REPEATED_LINE = "repeated-line"


def matching_rule(line: str, visible: int) -> str | None:
    """The name of the rule that removes this stripped line of `visible` characters, if any."""
    for rule in RULES:
        if visible <= rule.longest and rule.pattern.search(line):
            return rule.name
    return None


@cache
def triggers() -> tuple[str, ...]:
    """All triggers, in lower case."""
    return tuple(sorted({trigger.lower() for rule in RULES for trigger in rule.triggers}))
