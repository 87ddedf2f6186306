"""What class and id names say of an element: an automaton over the words that sites use.

Names are read as lower-case letters with `-` for everything else and at every change from lower
to upper case, so `articleBody_2` is `-article-body--`; a pattern with `-` at an end must begin or
end a word there, and one with `=` one of the names that spaces divide.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

NAV: Final = 1
SIDE: Final = 2
RELATED: Final = 4
SHARE: Final = 8
COMMENT: Final = 16
USER: Final = 32
META: Final = 64
CONTENT: Final = 128
POST: Final = 256
HIDDEN: Final = 512
SIGNATURE: Final = 1024
AD: Final = 2048
QUOTE: Final = 4096
MATH: Final = 8192
CODE: Final = 16384
LINES: Final = 32768
TAGS: Final = 65536
STRONG: Final = 131072
CONSENT: Final = 262144
NOTICE: Final = 524288
QUESTION: Final = 1048576
CAPTION: Final = 2097152
THREAD: Final = 4194304
FORUM: Final = 8388608
ANCHOR: Final = 16777216

WORDS: Final = {
    NAV: "-nav navigation navbar breadcrumb crumb -menu- menubar pagination -pager- paging footer"
    " -foot- -bottom-bar masthead topbar -toolbar toolbar- -skip- skiplink sitemap copyright="
    " copyright-- copyright-a copyright-b copyright-c copyright-f copyright-i copyright-l"
    " copyright-n copyright-t copyright-w copyrights copy-right"
    " -login- -signin- -signup- -register- -search- searchbox searchform"
    " -modal- -popup- -layer- -tooltip -overlay- -dialog- -toc- tableofcontents -lang-"
    " langswitch -friendlink"
    " -breadcrumbs- -site-header site-header -page-header globalheader -header-nav -topnav-"
    " -jumplink -pagenav- -prevnext -prev-next previous-post next-post -post-nav postnav"
    " -linksite -dropdown- -mw-jump -edit-section editsection -noprint-"
    " -report-abuse -report-post -report-button",
    SIDE: "sidebar -side- -aside- -rail- -right-col rightcol right-bar rightbar -leftcol -left-col"
    " -right-side"
    " -leftside -rightside -widget- =secondary= -secondary-co -secondary-side"
    " -secondary-nav -slider- -carousel-",
    RELATED: "related recommend recirc -suggest -popular -trending -hot-news hotnews -hot-list"
    " -rank- ranking toplist -latest- -read-more -readmore -see-also -more-from -also-like"
    " -similar- -read-next readnext -morenews -newslist -news-list -relate- -most-read mostread"
    " -tuijian -hotlist -outbrain -taboola -teaser -promo -up-next upnext -linked- xiangguan"
    " -excerpt -post-picker reflist mw-references -othernews -inline-related -in-this-story",
    SHARE: "share- -share sharing -sharing -social- -sns- addthis -follow-us -subscribe newsletter"
    " -newsletter- bdshare -jiathis -qrcode -qr-code -wechat- -weixin- -print- -tool- -tools-"
    " -actions- -action-bar -like- -likes- -vote- -votes- -voting- -rating- -ratings- -button-"
    " -btn- -btns- -buttons- -zan- -feedback- -survey- -donate -reward -dashang -app-download"
    " -controls- -toolbox- -reactions- -reaction-",
    COMMENT: "comment -respond- disqus -replies- -discuss- -pinglun -reply- livefyre",
    USER: "-author -byline -avatar -profile -user -userinfo -poster- -member- -bio- -writer-"
    " -reputation -joined- -postprofile -pls- -authi -post-author"
    " -abouttheauthor -author- -nickname -username"
    " -user-info -badge- -badges- -contributor -staff-",
    META: "-meta- -metadata -postmeta -entry-meta -date- -pubdate -pubtime -publish-time -posted-"
    " -timestamp -time- -datetime -byline -info- -post-info -article-info -views- -source-"
    " -post-header-meta -details- -infobar -breadline -dateline -read-time -reading-time",
    TAGS: "-tags- -tag-list -taglist -tag-links -keywords- -categories- -category-list -topics-"
    " -hashtags- -tag- -labels-",
    STRONG: "article-body articlebody article-content articlecontent article-text articletext"
    " post-content postcontent -post-body entry-content entrycontent story-body storybody"
    " -artibody -article-detail -post-text -js-content -rm-txt newscontent news-content news-text"
    " -news-body textbody blog-content story-content storycontent article-main contentbody"
    " content-body caas-body -markdown-body -main-text maintext -detail-content detailcontent"
    " -zoom- -trs-editor -text-con -con-txt -cms-content single-content page-content-body"
    " article-page- -body-copy -bodytext body-text -story-text -wp-content-text -articlepage-body"
    " -article-inner -post-inner -post-entry",
    CONTENT: "-main-content maincontent -content- -text- -article- -cnt- -rich-text richtext"
    " markdown -prose- -entry- -detail- -story- -body- -article-",
    CONSENT: "-cookie -consent gdpr onetrust -ot-pc -cmp- -truste -didomi -qc-cmp -fc-consent"
    " -usercentrics -cookies- -privacy-banner -cc-banner cookie-law",
    NOTICE: "-alert- -alerts- -notices- -announcement- -warning-bar -callout- -promo-bar"
    " -template-notice -no-reply -reply-form -replyform -quick-reply -new-message -post-form"
    " -comment-form"
    " commentform -message-box- -disclaimer -statement- disclaimer- -mianze -xieyi"
    " -posting-rules -paywall -regwall -support-us -upsell",
    FORUM: "-bbs- -thread -forum -topic-detail -topic-content -reply-list -replies-list",
    THREAD: "bbpress -discourse- discourse-root kunena asgaros wpforo -dwqa -sabai- vb-page"
    " -pg-viewthread -phpbb -flarum -nodebb ipslayout discussion-forum-posting qapage"
    " -topic-detail -thread-view -viewthread -question-page",
    ANCHOR: "-edit-section editsection -headerlink- -header-anchor- -heading-anchor- -anchor-link-"
    " -anchorlink- -hash-link- -permalink-",
    CAPTION: "-caption -credit -image-meta imagemeta wpcaption -photo-credit",
    QUESTION: "-question- -answer- -answers- -qapage",
    POST: "-post- -posts- -thread- -message- -messages- -answer -question- -topic- -postbody"
    " postmessage -t-f- -post-message -message-body -forum- -reply-content -comment-body"
    " -comment-content -comment-text -bbs- -post-stream -cooked- -bbwrapper",
    HIDDEN: "=hidden= =hide= =d-none= =display-none= =sr-only= visually-hidden visuallyhidden"
    " -screen-reader -screenreader =is-hidden= -noscript- -offscreen =invisible= ot-hide",
    SIGNATURE: "-signature -sig- -signatures -sign- -usersig -ksig- -msgsig",
    AD: "-ad- -ads- -advert -adsense -adbox -adslot -sponsor -gg- -google-ad -dfp- -gpt- -ad-slot"
    " -adv- -advertisement guanggao -banner- -promotion -adunit -adcontainer -native-ad",
    QUOTE: "-quote- -blockquote -bbcodequote -quoted -quotebox"
    " bbcodeblock bbcode-quote quotecontent -quote-container -quote-content -quoteblock",
    MATH: "-katex- -mathjax -mjx- -mwe-math -math- -latex- -tex- -equation -math-tex -mathml",
    CODE: "-highlight- -highlight-source -codehilite -syntaxhighlighter -code- -sourcecode -prism"
    " -hljs- -codeblock -code-block -crayon -language- -brush- -prettyprint",
    LINES: "-gutter- -line-number -linenumber -lineno -linenos -line-numbers -hljs-ln-numbers"
    " -hljs-ln-line-number -rouge-gutter -line-num -lnum- -pre-numbering -blob-num -crayon-nums",
}


def automaton() -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]:
    """Aho and Corasick's automaton (1975): next state [states, 28] and the bits found there."""
    edges: list[dict[int, int]] = [{}]
    found = [0]
    for bit, words in WORDS.items():
        for word in words.split():
            state = 0
            symbols = [
                symbol
                for place, sign in enumerate(word)
                for symbol in (
                    ((27, 26) if place == 0 else (26, 27))
                    if sign == "="
                    else (26,)
                    if sign == "-"
                    else (ord(sign) - 97,)
                )
            ]
            for symbol in symbols:
                if symbol not in edges[state]:
                    edges[state][symbol] = len(edges)
                    edges.append({})
                    found.append(0)
                state = edges[state][symbol]
            found[state] |= bit
    following = np.zeros((len(edges), 28), np.int16)
    fail = [0] * len(edges)
    queue = list(edges[0].values())
    for symbol, state in edges[0].items():
        following[0, symbol] = state
    for state in queue:
        for symbol in range(28):
            target = edges[state].get(symbol)
            if target is None:
                following[state, symbol] = following[fail[state], symbol]
            else:
                fail[target] = int(following[fail[state], symbol])
                found[target] |= found[fail[target]]
                following[state, symbol] = target
                queue.append(target)
    return following, np.array(found, np.int64)


NEXT_STATE, FOUND = automaton()
