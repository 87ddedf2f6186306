"""Short word lists whose hits per thousand characters are signals.

They are meant to tell kinds of pages apart, not to judge single words: every term is one that an
honest text uses now and then. Terms begin with two Han characters and are matched as they stand.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Sources: the classes of the FBS spam messages (advertising, fraud, illegal trade) described in
# Zhang et al., "Lies in the Air" (2020); words were chosen by reading, not copied from a list.
SPAM = """
代开 发票 正规机打 开发票 税点 包邮 特价 秒杀 优惠券 优惠 促销 抢购 限时 满减 折起 打折 清仓
大促 让利 钜惠 特惠 热线 咨询电话 详询 详情咨询 来电 致电 客服 退订 回复退订 加微信 加我微信
加qq 扣扣 微信号 公众号 扫码 扫一扫 二维码 点击领取 点击链接 点击查看 点击 领取 兑换 积分
红包 中奖 抽奖 大奖 礼包 好礼 豪礼 礼品 免费送 免费领 赠送 返现 提现 贷款 放款 信用贷 无抵押
无担保 额度 月息 急用钱 秒批 黑户 网贷 办卡 办证 刻章 套现 提额 征信 下款 兼职 日赚 月入 日结
高薪 招聘 诚聘 在家 躺赚 代理 加盟 诚招 招商 荐股 牛股 涨停 内幕消息 操盘 稳赚 保本 本息 高收益
理财 投资顾问 炒股 股票群 入群 建群 老师带 首付 楼盘 样板间 开盘 认购 铺位 旺铺 学区房 精装
现房 户型 商铺 置业 看房 售楼 会员 尊敬的 贵宾 尊享 专享 尽享 体验 抢先 火爆 热销 畅销 新品
到货 全场 送礼 买一送一 满就送 豪华 隆重 盛大 恭候 光临 莅临 美容 减肥 瘦身 丰胸 祛斑 壮阳 增高
植发
"""
GAMBLING_AND_SEX = """
赌场 赌博 博彩 百家乐 六合 时时彩 彩票 投注 下注 棋牌 老虎机 真人娱乐 娱乐城 葡京 足球投注 体彩
开奖 网络真人 首存 彩金 包夜 援交 小姐 上门服务 激情 裸聊 约炮 一夜情 外围 特殊服务 按摩 美女
寂寞 诱惑 成人 三级 情色 艳照 兼职妹 楼凤 学生妹
"""
NAVIGATION = """
首页 上一页 下一页 上一篇 下一篇 末页 尾页 返回顶部 返回首页 返回列表 回到顶部 网站地图
网站首页 站内搜索 友情链接 关于我们 联系我们 加入收藏 设为首页 收藏本站 登录 注册 忘记密码
用户名 我的订单 购物车 立即购买 查看更多 点击查看 更多 展开全文 阅读全文 相关文章 相关阅读
相关推荐 推荐阅读 热门推荐 热门文章 热门标签 最新文章 猜你喜欢 分享到 打印本页 关闭窗口
版权所有 免责声明 隐私政策 服务条款 使用条款 意见反馈 帮助中心 手机版 客户端 下载 归档 标签
分类 目录 浏览次数 阅读次数 访问量 评论 点赞 转发
"""
FINANCE = """
股份 股东 股票 股权 证券 债券 基金 期货 期权 融资 投资 资产 负债 净利润 营业收入 现金流 毛利率
市盈率 市值 分红 股息 利率 汇率 货币 央行 银行 保险 信托 上市 发行 募集 保荐 承销 审计 会计
财务 年报 季报 公告 披露 董事 监事 并购 重组 估值 收益率
"""
LEXICONS = {
    "spam": SPAM,
    "gambling": GAMBLING_AND_SEX,
    "navigation": NAVIGATION,
    "finance": FINANCE,
}


@dataclass(frozen=True)
class Lexicon:
    """All terms in one hash table on their first two characters, with chains."""

    slots: NDArray[np.int32]
    """int32 [SLOTS]: the first term of a slot, or -1."""
    following: NDArray[np.int32]
    """int32 [terms]: the next term of the same slot, or -1."""
    starts: NDArray[np.int32]
    """int32 [terms + 1]: where each term's UTF-8 bytes lie in `data`."""
    data: NDArray[np.uint8]
    firsts: str
    """The first character of each term."""
    seconds: str
    list_of: NDArray[np.int32]
    """int32 [terms]: which of `LEXICONS` a term belongs to."""


SLOTS = 8192


def slot(first: int, second: int) -> int:
    """The slot of a pair of characters; the kernel computes the same."""
    return ((first * 0x9E3B) ^ (second * 0x85EB)) & (SLOTS - 1)


@functools.cache
def lexicon() -> Lexicon:
    """The table of all lists in `LEXICONS`."""
    entries = [
        (term, index)
        for index, words in enumerate(LEXICONS.values())
        for term in sorted(set(words.split()))
    ]
    slots = np.full(SLOTS, -1, np.int32)
    following = np.full(len(entries), -1, np.int32)
    encoded = [term.encode() for term, _ in entries]
    for number, (term, _) in enumerate(entries):
        where = slot(ord(term[0]), ord(term[1]))
        following[number], slots[where] = slots[where], number
    return Lexicon(
        slots=slots,
        following=following,
        starts=np.cumsum([0, *map(len, encoded)]).astype(np.int32),
        firsts="".join(term[0] for term, _ in entries),
        seconds="".join(term[1] for term, _ in entries),
        data=np.frombuffer(b"".join(encoded), np.uint8),
        list_of=np.array([index for _, index in entries], np.int32),
    )
