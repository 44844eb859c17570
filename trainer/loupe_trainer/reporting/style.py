"""How the page looks: dark on white, colours that the colour-blind tell apart, A4 on paper."""

# Okabe and Ito's palette: blue and vermillion differ for every kind of colour blindness.
GOOD = "#0072b2"
DEFECT = "#d55e00"

STYLE = """
body{font:16px/1.5 system-ui,"DejaVu Sans",sans-serif;max-width:64rem;margin:2rem auto;
padding:0 1.25rem;color:#1a1a1a;background:#fff}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 .25rem}
h2{font-size:1.2rem;margin:2.25rem 0 .5rem;padding-top:.6rem;border-top:2px solid #1a1a1a}
p{margin:.4rem 0 .8rem;max-width:52rem}
.what{color:#444;margin-top:0}
.summary{border:2px solid #1a1a1a;padding:.6rem 1.2rem;margin:1rem 0}
.summary p{max-width:none;margin:.45rem 0}.summary strong{white-space:nowrap}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1rem;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .6rem;text-align:left;vertical-align:top;border-bottom:1px solid #ccc}
thead th{border-bottom:2px solid #777;font-size:.85em;vertical-align:bottom}
tbody th{font-weight:600}
td small,th small,.note{color:#555;font-size:.85em}
th small{font-weight:400}
.numbers td:nth-child(2),.numbers td:nth-child(3){white-space:nowrap}
.defects td{white-space:nowrap}
.pictures td{padding:.35rem .25rem}.pictures{table-layout:fixed}.pictures th{width:25%}
.pictures tbody th{overflow-wrap:anywhere;padding-right:.75rem;font-size:.85em}
.scale img{display:inline;vertical-align:middle;border:1px solid #777}
.pictures img{display:block;max-width:100%;max-height:12rem}
.mark{display:inline-block;padding:0 .45rem;border:1px solid #1a1a1a;border-radius:3px;
font-size:.85em}
.wrong{background:#1a1a1a;color:#fff}
.figures{display:flex;flex-wrap:wrap;gap:1.5rem}.figures figure{flex:1 1 24rem;min-width:0}
figure{margin:.5rem 0}figcaption{font-size:.85em;color:#444}
svg{width:100%;height:auto;display:block}svg text{font:12px system-ui,"DejaVu Sans",sans-serif;
paint-order:stroke;stroke:#fff;stroke-width:4px}
.facts thead{display:none}.facts th{min-width:9rem}.facts td{width:100%;overflow-wrap:anywhere}
dt{font-weight:600;margin-top:.5rem}dd{margin:0 0 .3rem 1.2rem;max-width:50rem}
@page{size:A4;margin:14mm}
@media print{body{font-size:9pt;margin:0;padding:0;max-width:none}
h1{font-size:15pt}h2{font-size:11.5pt;margin-top:1.4rem;break-after:avoid}dt{break-after:avoid}
tr,figure,.figures,.summary,dd{break-inside:avoid}thead{display:table-header-group}
p,dd{orphans:3;widows:3}.figures{flex-wrap:nowrap}.figures figure{flex:1 1 0}
.pictures img{max-height:3.6cm}th,td{padding:.25rem .4rem}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""
