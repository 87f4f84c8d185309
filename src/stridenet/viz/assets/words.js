// All words of the page, in English and Chinese, and how numbers are written. {names} are filled in.
"use strict";

const Words = (() => {
  const TABLES = {
    en: {
      "language": "中文",
      "lead": "This page is the network: it computes here, in your browser, and sends nothing anywhere.",
      "about": "{classes} classes · images of {rows} × {columns} pixels · {weights} weights",
      "about.fixed": "{fixed} fixed numbers",
      "draw.title": "Draw",
      "image.title": "The image",
      "draw.pad": "Pad to draw on",
      "draw.here": "Draw here",
      "draw.undo": "Undo",
      "draw.clear": "Clear",
      "draw.help": "Mouse or finger; or arrow keys to move the pen, space to lower and lift it.",
      "draw.down": "Pen down",
      "draw.up": "Pen up",
      "samples.title": "Samples",
      "samples.one": "Sample {number}: {label}",
      "picture.title": "A picture of yours",
      "picture.choose": "Choose a file",
      "picture.drop": "Or drop one on the page.",
      "picture.wrong": "{name} is no picture that this browser can read.",
      "picture.large": "{name} has more than {most} million pixels; make it smaller.",
      "given.label": "The image that the network gets",
      "given.size": "What the network gets: {channels} × {rows} × {columns} numbers from 0 to 1.",
      "given.framed": "Your drawing was cut out, scaled and centred as the training images were.",
      "given.empty": "Nothing is drawn yet.",
      "given.choose": "Choose a picture.",
      "given.none": "This page has no image for it: write it with samples (stridenet explore --data).",
      "given.tone": "It has one tone.",
      "given.file": "From {name}.",
      "given.sample": "A sample with the label {label}.",
      "verdict": "It says",
      "verdict.nothing": "Nothing to recognise yet",
      "classes.caption": "How likely each class is to the network",
      "classes.name": "Class",
      "classes.share": "Probability",
      "layers.title": "Layers",
      "layers.about": "From the image down to the scores. Choose a pixel of any map: “One number” tells how it " +
        "comes about. Arrow keys move, Page Up and Page Down change the map, Enter goes to “One number” and Escape " +
        "comes back. Layers, maps, rows and columns are counted from 0.",
      "layers.before": "Preparation · {title}",
      "layers.open": "Open all",
      "layers.close": "Close all",
      "layers.range": "{low} to {high}",
      "layers.maps": "Maps of {step}",
      "layers.all": "Show all {count} maps",
      "layers.fewer": "Show the first {first} maps",
      "layers.see": "{value}: see how it comes about",
      "scale.negative": "negative",
      "scale.positive": "positive",
      "place.map": "map {map}",
      "place.pixel": "map {map}, row {row}, column {column}",
      "place.vector": "all numbers",
      "place.unit": "number {index}",
      "status": "{place}: {value}",
      "number.parts": "Parts of this column",
      "number.short": "One number",
      "number.back": "Back to the map",
      "number.title": "One number, step by step",
      "number.step": "Layer",
      "number.map": "Map",
      "number.unit": "Number",
      "number.row": "Row",
      "number.column": "Column",
      "number.maps": "Maps of the input",
      "number.products": "What the number is made of",
      "number.image": "The image",
      "number.input": "From: {title}, map {map} of {count}",
      "number.vector": "From: {title}",
      "number.output": "To: {place}, which is {value}",
      "number.chip": "map {map}: {sum}",
      "grid.sum": "The window on map {map}; in each cell the number, its weight and their product.",
      "grid.mean": "The window on map {map}; in each cell the number and its share of the mean.",
      "grid.max": "The window on map {map}.",
      "step.back": "Back",
      "step.forward": "Step",
      "step.play": "Play",
      "step.pause": "Pause",
      "step.all": "All",
      "step.progress": "{at} of {count}",
      "running.nothing": "Nothing is added yet. Press Step.",
      "running.nothing.max": "Nothing is looked at yet. Press Step.",
      "running.product": "{product}. The sum is now {sum}.",
      "running.bias": "The bias {bias} is added. The sum is {sum}.",
      "running.rest": "The other {count} come to {part}. The sum is now {sum}.",
      "running.max": "{product}. The largest so far is {sum}.",
      "running.padding": "Padding never wins. The largest so far is {sum}.",
      "sentence.more": "({count} more)",
      "sentence.copy": "{value} is copied as it is.",
      "sentence.padding": "This is padding: {value}.",
      "list.from": "From",
      "list.product": "Product",
      "list.added": "Added",
      "list.sum": "Sum so far",
      "list.bias": "Bias",
      "list.rest": "the other {count}",
      "list.all": "Show all {count}",
      "list.fewer": "Show the {count} largest",
      "reach.title": "Which pixels reach it",
      "reach.frame": "Its window on the image is the frame of {rows} × {columns} pixels.",
      "reach.pixel": "Its window on the image is a single pixel.",
      "reach.some": "{count} pixels change it now.",
      "reach.one": "One pixel changes it now.",
      "reach.none": "No pixel changes it now.",
      "reach.about": "The gradient: more light in an orange pixel makes the number larger, in a blue one smaller.",
      "why.title": "Why this class",
      "why.class": "Class",
      "saliency.title": "Saliency",
      "saliency.label": "The gradient of the score by each pixel",
      "saliency.about": "More light in an orange pixel raises the score of the class, in a blue one it lowers it.",
      "occlusion.title": "Occlusion",
      "occlusion.label": "How much the probability falls where the image is covered",
      "occlusion.start": "Cover it square by square",
      "occlusion.cancel": "Cancel",
      "occlusion.progress": "Share of the image that has been covered",
      "occlusion.found": "A square of {size} × {size} lowers the probability by up to {drop}.",
      "occlusion.about": "A small square covers one part after the other. Without an orange part the probability " +
        "falls, without a blue one it rises.",
      "kind.Resize": "The image is resized: a weighted mean of the pixels around.",
      "kind.Pad": "A margin is laid around the image.",
      "kind.Normalize": "The mean of the training images is taken off, and the rest divided by their deviation.",
      "kind.SubtractMean": "The mean of the training images is taken off.",
      "kind.Conv2d": "Convolution: a kernel lies on a window of the input; each number is multiplied by its weight, " +
        "and all is added up.",
      "kind.MaxPool2d": "Max pooling: the largest number of a window goes on.",
      "kind.AvgPool2d": "Average pooling: the mean of a window goes on.",
      "kind.GlobalAvgPool2d": "Global average: the mean of a whole map goes on.",
      "kind.TrainableSubsampling2d": "Subsampling of 1998: the sum of a window times a weight, plus a bias.",
      "kind.BatchNorm2d": "Batch norm: the map's mean in training is taken off, then scaled and shifted.",
      "kind.Linear": "Dense layer: each number of the input is multiplied by its weight, and all is added up.",
      "kind.RBF": "Distance: how far the numbers are from the code of a class, squared, with a minus.",
      "kind.Flatten": "The maps are laid out in one row.",
      "kind.ReLU": "ReLU: what is negative becomes zero.",
      "kind.LeakyReLU": "Leaky ReLU: what is negative becomes small.",
      "kind.Tanh": "Tanh: the number is pressed between −1 and 1.",
      "kind.Sigmoid": "Sigmoid: the number is pressed between 0 and 1.",
      "kind.ScaledTanh": "Scaled tanh of 1998: the number is pressed between −1.7159 and 1.7159.",
      "kind.Softmax": "Softmax: scores become shares that add up to 1.",
      "kind.LogSoftmax": "The logarithm of softmax, the share of each class.",
      "kind.ZeroPadShortcut": "Shortcut: the input goes past the layers; maps that are missing are zero.",
      "kind.Add": "Residual sum: what the layers give is added to what went past them.",
    },
    zh: {
      "language": "English",
      "lead": "这个页面就是网络本身：它在你的浏览器中计算，不向任何地方发送数据。",
      "about": "{classes} 个类别 · 图像 {rows} × {columns} 像素 · {weights} 个权重",
      "about.fixed": "{fixed} 个固定的数",
      "draw.title": "绘图",
      "image.title": "图像",
      "draw.pad": "画板",
      "draw.here": "在此绘制",
      "draw.undo": "撤销",
      "draw.clear": "清空",
      "draw.help": "用鼠标或手指绘制；也可用方向键移动画笔，空格键落笔和提笔。",
      "draw.down": "落笔",
      "draw.up": "提笔",
      "samples.title": "样本",
      "samples.one": "样本 {number}：{label}",
      "picture.title": "你的图片",
      "picture.choose": "选择文件",
      "picture.drop": "或将图片拖放到页面上。",
      "picture.wrong": "浏览器无法将 {name} 作为图片读取。",
      "picture.large": "{name} 超过 {most} 百万像素，请先缩小。",
      "given.label": "输入网络的图像",
      "given.size": "网络的输入：{channels} × {rows} × {columns} 个 0 到 1 之间的数。",
      "given.framed": "你的画已像训练图像那样被裁剪、缩放并居中。",
      "given.empty": "还没有画任何东西。",
      "given.choose": "请选择一张图片。",
      "given.none": "这个页面没有可用的图像：生成页面时请带上样本（stridenet explore --data）。",
      "given.tone": "它只有一种色调。",
      "given.file": "来自 {name}。",
      "given.sample": "样本的标签是 {label}。",
      "verdict": "网络的回答",
      "verdict.nothing": "还没有可识别的内容",
      "classes.caption": "网络认为每个类别的可能性",
      "classes.name": "类别",
      "classes.share": "概率",
      "layers.title": "各层",
      "layers.about": "从图像一直到得分。在任一特征图上选一个像素，“一个数”会说明它是怎样算出来的。" +
        "方向键移动，Page Up 和 Page Down 换图，Enter 键转到“一个数”，Escape 键返回。层、图、行、列都从 0 数起。",
      "layers.before": "预处理 · {title}",
      "layers.open": "全部展开",
      "layers.close": "全部收起",
      "layers.range": "{low} 到 {high}",
      "layers.maps": "{step} 的特征图",
      "layers.all": "显示全部 {count} 个特征图",
      "layers.fewer": "只显示前 {first} 个特征图",
      "layers.see": "{value}：看看它是怎样算出来的",
      "scale.negative": "负",
      "scale.positive": "正",
      "place.map": "图 {map}",
      "place.pixel": "图 {map}，行 {row}，列 {column}",
      "place.vector": "所有的数",
      "place.unit": "第 {index} 个数",
      "status": "{place}：{value}",
      "number.parts": "这一栏的各部分",
      "number.short": "一个数",
      "number.back": "回到特征图",
      "number.title": "一个数，一步一步",
      "number.step": "层",
      "number.map": "图",
      "number.unit": "序号",
      "number.row": "行",
      "number.column": "列",
      "number.maps": "输入的特征图",
      "number.products": "这个数的组成",
      "number.image": "图像",
      "number.input": "来自：{title}，图 {map}（共 {count} 个）",
      "number.vector": "来自：{title}",
      "number.output": "得到：{place}，其值为 {value}",
      "number.chip": "图 {map}：{sum}",
      "grid.sum": "图 {map} 上的窗口；每格依次是输入的数、权重和乘积。",
      "grid.mean": "图 {map} 上的窗口；每格依次是输入的数和它在平均值中的份额。",
      "grid.max": "图 {map} 上的窗口。",
      "step.back": "上一步",
      "step.forward": "下一步",
      "step.play": "播放",
      "step.pause": "暂停",
      "step.all": "全部",
      "step.progress": "{at} / {count}",
      "running.nothing": "还没有加任何数。请按“下一步”。",
      "running.nothing.max": "还没有比较任何数。请按“下一步”。",
      "running.product": "{product}。目前的和是 {sum}。",
      "running.bias": "加上偏置 {bias}。和是 {sum}。",
      "running.rest": "其余 {count} 项共 {part}。目前的和是 {sum}。",
      "running.max": "{product}。目前最大的是 {sum}。",
      "running.padding": "填充不参与比较。目前最大的是 {sum}。",
      "sentence.more": "（另有 {count} 项）",
      "sentence.copy": "{value} 被原样复制。",
      "sentence.padding": "这里是填充：{value}。",
      "list.from": "来自",
      "list.product": "乘积",
      "list.added": "加数",
      "list.sum": "累计",
      "list.bias": "偏置",
      "list.rest": "其余 {count} 项",
      "list.all": "显示全部 {count} 项",
      "list.fewer": "只显示最大的 {count} 项",
      "reach.title": "哪些像素影响它",
      "reach.frame": "它在图像上的窗口是框内的 {rows} × {columns} 个像素。",
      "reach.pixel": "它在图像上的窗口是单个像素。",
      "reach.some": "此刻有 {count} 个像素会改变它。",
      "reach.one": "此刻有一个像素会改变它。",
      "reach.none": "此刻没有像素会改变它。",
      "reach.about": "梯度：橙色像素变亮，这个数变大；蓝色像素变亮，这个数变小。",
      "why.title": "为什么是这个类别",
      "why.class": "类别",
      "saliency.title": "显著性",
      "saliency.label": "得分对每个像素的梯度",
      "saliency.about": "橙色像素变亮会提高该类别的得分，蓝色像素变亮会降低它。",
      "occlusion.title": "遮挡",
      "occlusion.label": "遮住图像各处时概率下降多少",
      "occlusion.start": "逐块遮挡",
      "occlusion.cancel": "取消",
      "occlusion.progress": "已遮挡的比例",
      "occlusion.found": "一个 {size} × {size} 的方块最多使概率下降 {drop}。",
      "occlusion.about": "用一个小方块依次盖住图像的每一处。橙色：盖住后概率下降；蓝色：概率上升。",
      "kind.Resize": "缩放图像：取周围像素的加权平均。",
      "kind.Pad": "在图像四周加上边框。",
      "kind.Normalize": "减去训练图像的均值，再除以它们的标准差。",
      "kind.SubtractMean": "减去训练图像的均值。",
      "kind.Conv2d": "卷积：卷积核盖在输入的一个窗口上，每个数乘以它的权重，再全部相加。",
      "kind.MaxPool2d": "最大池化：窗口中最大的数传下去。",
      "kind.AvgPool2d": "平均池化：窗口的平均值传下去。",
      "kind.GlobalAvgPool2d": "全局平均：整个特征图的平均值传下去。",
      "kind.TrainableSubsampling2d": "1998 年的下采样：窗口之和乘以权重，再加偏置。",
      "kind.BatchNorm2d": "批归一化：减去该图在训练中的均值，再缩放和平移。",
      "kind.Linear": "全连接层：输入的每个数乘以它的权重，再全部相加。",
      "kind.RBF": "距离：这些数与某个类别编码之差的平方和，取负号。",
      "kind.Flatten": "把特征图排成一行。",
      "kind.ReLU": "ReLU：负数变为零。",
      "kind.LeakyReLU": "Leaky ReLU：负数变得很小。",
      "kind.Tanh": "Tanh：把数压缩到 −1 与 1 之间。",
      "kind.Sigmoid": "Sigmoid：把数压缩到 0 与 1 之间。",
      "kind.ScaledTanh": "1998 年的缩放 tanh：把数压缩到 −1.7159 与 1.7159 之间。",
      "kind.Softmax": "Softmax：得分变成总和为 1 的概率。",
      "kind.LogSoftmax": "softmax 的对数，即每个类别概率的对数。",
      "kind.ZeroPadShortcut": "快捷连接：输入绕过这些层，缺少的特征图为零。",
      "kind.Add": "残差和：各层的结果加上绕过它们的输入。",
    },
  };

  let language = navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";

  // The words of `key`, its {names} filled in.
  function say(key, values = {}) {
    return TABLES[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
  }

  // The other language.
  function turn() {
    language = language === "en" ? "zh" : "en";
  }

  // Puts the words of the language in their places on the page.
  function apply() {
    document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
    for (const element of document.querySelectorAll("[data-word]")) element.textContent = say(element.dataset.word);
    for (const element of document.querySelectorAll("[data-label]")) {
      element.setAttribute("aria-label", say(element.dataset.label));
    }
    const button = document.getElementById("language");
    button.textContent = say("language");
    button.lang = language === "zh" ? "en" : "zh-CN";
  }

  // Sentences one behind the other; Chinese ones need no space.
  function join(sentences) {
    return sentences.join(language === "zh" ? "" : " ");
  }

  // Three digits of a number that count; whole numbers as they are.
  function rounded(value) {
    return Number.isInteger(value) && Math.abs(value) < 1e6 ? value : Number(value.toPrecision(3));
  }

  // A number as it is shown: rounded, with a real minus.
  function number(value) {
    return String(rounded(value)).replace(/-/g, "−").replace("Infinity", "∞");
  }

  // A name from a file as it may be shown: what does not print is escaped.
  function visible(name) {
    const digits = (c) => c.codePointAt(0).toString(16);
    const escaped = (c) => (digits(c).length > 4 ? `\\u{${digits(c)}}` : `\\u${digits(c).padStart(4, "0")}`);
    return name.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, escaped);
  }

  // A share of 1 as per cent.
  function percent(share) {
    const text = (100 * share).toFixed(1);
    return text === "0.0" ? "<\u00a00.1\u00a0%" : `${text}\u00a0%`;
  }

  // A whole number with its thousands apart.
  function grouped(value) {
    return String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");
  }

  // What a step is called: layers by their place as `stridenet summary` has it, transforms come before the first.
  function step({ name, title, transform }) {
    if (transform) return say("layers.before", { title });
    return name ? `${name} · ${title}` : title;
  }

  // Where a number stands on the tiles of `grid`, as words; without `exact` only the tile.
  function place(grid, at, exact) {
    if (!grid.vector) return say(exact ? "place.pixel" : "place.map", at);
    return exact ? say("place.unit", { index: Maps.index(grid, { ...at, map: 0 }) }) : say("place.vector");
  }

  return { TABLES, say, turn, apply, join, rounded, number, visible, percent, grouped, step, place };
})();
