"""The report in a real browser: what a reader does with it, and what a screen reader and the network see of it."""
import os
import shutil

import pytest
from playwright.sync_api import sync_playwright
from report_parts import HOSTILE, LOSSES, make_parts, make_table

from basicsr_nriqa.study.page import html_page

SHOWN = '.view:not([hidden])'

# Contrast of every text that is seen against what lies behind it (WCAG 2, 1.4.3); the canvas knows all notations.
CONTRAST = '''() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const rgba = (colour) => {
    if (!known.has(colour)) known.set(colour, paint(colour));
    return known.get(colour);
  };
  const paint = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let part = element; part; part = part.parentElement) {
      const colour = rgba(getComputedStyle(part).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return [255, 255, 255];
  };
  const failures = [];
  let count = 0;
  for (const element of document.querySelectorAll("body *")) {
    const texts = [...element.childNodes].filter((node) => node.nodeType === 3 && node.textContent.trim());
    if (!texts.length || !element.checkVisibility() || element.closest(".stage, script, noscript")) continue;
    const style = getComputedStyle(element);
    const ink = rgba(element instanceof SVGElement ? style.fill : style.color);
    const [light, dark] = [luminance(ink), luminance(behind(element))].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    count += 1;
    if (ratio < 4.5) failures.push(`${ratio.toFixed(2)}: ${element.outerHTML.slice(0, 200)}`);
  }
  return [count, failures];
}'''

# Rules of WCAG and ARIA that can be seen from the document alone; returns what breaks them.
STRUCTURE = '''() => {
  const failures = [];
  const fail = (rule, element) => failures.push(`${rule}: ${element.outerHTML.slice(0, 120)}`);
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  if (new Set(ids).size < ids.length) failures.push("an id occurs twice");
  let level = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
    const own = Number(heading.tagName[1]);
    if (own > level + 1) fail("heading skips a level", heading);
    level = own;
  }
  if (document.querySelectorAll("h1").length !== 1) failures.push("not one h1");
  for (const landmark of ["header", "nav", "main", "footer"]) {
    if (document.querySelectorAll(`body > ${landmark}`).length !== 1) failures.push(`not one ${landmark}`);
  }
  const each = (selector, rule, holds) => {
    for (const element of document.querySelectorAll(selector)) if (!holds(element)) fail(rule, element);
  };
  each("select, input", "no label", (control) => control.labels.length);
  each("button, summary, a", "no name", (button) => button.textContent.trim());
  each("img", "no alternative text", (image) => image.alt);
  each("a", "points nowhere", (link) => document.querySelector(link.getAttribute("href")));
  each("th", "no scope", (header) => header.scope);
  each(".chart", "no alternative text", (chart) => chart.matches("[role=img][aria-label]"));
  for (const element of document.querySelectorAll("[aria-describedby], [aria-labelledby]")) {
    const named = element.getAttribute("aria-describedby") ?? element.getAttribute("aria-labelledby");
    if (!document.getElementById(named)) fail("points nowhere", element);
  }
  if (!document.documentElement.lang) failures.push("no language");
  return failures;
}'''


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp('report') / 'report.html'
    path.write_text(html_page(make_table(), **make_parts()), encoding='utf-8')
    return path


@pytest.fixture(scope='module')
def browser():
    names = ('chromium', 'chromium-browser', 'google-chrome')
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f'no browser is installed: none of {", ".join(names)}')
    # Chromium's sandbox refuses to work for root
    arguments = ['--no-sandbox'] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope='module')
def wrong():
    """What no page may do: errors, messages on the console, and requests."""
    return []


def open_page(browser, file, wrong, **options):
    page = browser.new_page(viewport={'width': 1200, 'height': 800}, **options)
    page.on('console', lambda message: wrong.append(f'{message.type}: {message.text}'))
    page.on('pageerror', lambda error: wrong.append(str(error)))
    page.on('request', lambda request: wrong.append(request.url[:200])
            if request.url != file.as_uri() and not request.url.startswith('data:') else None)
    page.goto(file.as_uri())
    return page


@pytest.fixture(scope='module')
def loaded(browser, file, wrong):
    return open_page(browser, file, wrong, color_scheme='light')


@pytest.fixture
def page(loaded, wrong):
    """The report as it is when opened. It is opened once, since the browser needs seconds for Plotly's five megabytes,
    and all choices are taken back after each test."""
    yield loaded
    loaded.emulate_media(media='screen', color_scheme='light')
    loaded.set_viewport_size({'width': 1200, 'height': 800})
    loaded.mouse.move(0, 0)
    loaded.evaluate('''() => {
      for (const control of document.querySelectorAll("select, input")) {
        if (control.type === "range") control.value = control.defaultValue;
        else if (control.type === "checkbox") control.checked = false;
        else control.selectedIndex = Math.max(0, [...control.options].findIndex((option) => option.defaultSelected));
        control.dispatchEvent(new Event(control.type === "range" ? "input" : "change"));
      }
      for (const part of document.querySelectorAll("details[open]")) part.open = false;
      document.activeElement.blur();
      scrollTo(0, 0);
    }''')
    average = header(loaded, 'Average')
    while average.get_attribute('aria-sort') != 'descending':
        average.get_by_role('button').click()
    assert not wrong


def column(page, index):
    return page.locator(f'{SHOWN} tbody tr').evaluate_all(
        '(rows, index) => rows.map((row) => row.cells[index].textContent.replace(" ⚑", ""))', index)


def wait_until(page, condition):
    """Playwright's own way evaluates a string in the page, which its content security policy forbids."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f'did not come true: {condition}')


def header(page, name):
    return page.locator(f'{SHOWN} thead th', has=page.get_by_role('button', name=name, exact=True))


def test_a_click_sorts_and_another_turns_the_order(page):
    assert column(page, 4) == ['+7.1', '−36', 'n/a']
    assert header(page, 'Average').get_attribute('aria-sort') == 'descending'
    header(page, 'LPIPS').get_by_role('button').click()
    assert column(page, 2) == ['+18', '−80', '−111']
    assert column(page, 0) == [LOSSES[0], LOSSES[2], LOSSES[1]], 'whole rows move'
    assert header(page, 'LPIPS').get_attribute('aria-sort') == 'descending'
    assert header(page, 'Average').get_attribute('aria-sort') == 'none'
    header(page, 'LPIPS').get_by_role('button').click()
    assert column(page, 2) == ['−111', '−80', '+18']
    assert header(page, 'LPIPS').get_attribute('aria-sort') == 'ascending'
    assert page.get_by_role('status').inner_text().endswith('Sorted by LPIPS, worst first.')


def test_judges_sort_and_explain_themselves_like_other_columns(browser, tmp_path, wrong):
    file = tmp_path / 'report.html'
    file.write_text(html_page(make_table(judges=['psnr']), **make_parts()), encoding='utf-8')
    page = open_page(browser, file, wrong, color_scheme='dark')
    assert column(page, 4) == ['+7.1', '−36', 'n/a'], 'the average decides the order at first'
    header(page, 'Judges').get_by_role('button').click()
    assert column(page, 5) == ['+3.2', '0.0', '−12']
    assert header(page, 'Judges').get_attribute('aria-sort') == 'descending'
    assert page.get_by_role('status').inner_text().endswith('Sorted by Judges, best first.')
    page.locator(f'{SHOWN} td[data-hint]').nth(4).hover()
    assert page.locator('#hint').inner_text() == f'{LOSSES[0]}, Judges: +3.2 %, 95 % interval +3.0 % to +3.5 %'
    assert plotted(page, 'loss-chart')[0]['x'] == ['PSNR', 'LPIPS *', 'NIMA *', 'Average', 'Judges']
    # each title stands above its columns
    lefts = [[part.bounding_box()['x'] for part in parts] for parts in (
        page.locator(f'{SHOWN} .groups th').all(), [header(page, name) for name in ('PSNR', 'LPIPS', 'Average')])]
    assert lefts[0] == pytest.approx(lefts[1], abs=1)
    assert page.evaluate(STRUCTURE) == []
    assert page.evaluate(CONTRAST)[1] == []
    page.set_viewport_size({'width': 390, 'height': 800})
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    page.close()
    assert not wrong


def test_the_keyboard_sorts(page):
    button = header(page, 'PSNR').get_by_role('button')
    button.focus()
    page.keyboard.press('Enter')
    assert column(page, 1) == ['+3.2', '0.0', '−12']
    page.keyboard.press('Space')
    assert column(page, 1) == ['−12', '0.0', '+3.2']
    # what is not available is last in both orders
    for _ in range(2):
        header(page, 'NIMA').get_by_role('button').click()
        assert column(page, 3)[-1] == 'n/a'
    header(page, 'Loss').get_by_role('button').click()
    assert column(page, 0) == [LOSSES[1], LOSSES[2], LOSSES[0]]


def test_model_dataset_and_decimals_are_switched(page):
    header(page, 'LPIPS').get_by_role('button').click()
    page.get_by_label('Model', exact=True).select_option('iSeeBetter')
    assert column(page, 2) == ['+19', '−79', '−110'], 'the order is kept'
    page.get_by_label('Dataset', exact=True).select_option('Vimeo')
    assert column(page, 2) == ['+29', '−100']
    assert page.get_by_role('status').inner_text() == ('Relative gain in percent: iSeeBetter, Vimeo. Sorted by LPIPS, '
                                                       'best first.')
    page.get_by_label('Model', exact=True).select_option('')
    page.get_by_label('Dataset', exact=True).select_option('')
    page.get_by_label('Decimals').select_option(label='0, as in the paper')
    assert column(page, 1) == ['+3', '−12', '+0']


def test_the_hint_comes_with_the_focus_and_with_the_mouse(page):
    hint = page.locator('#hint')
    cells = page.locator(f'{SHOWN} td[data-hint]')
    assert not hint.is_visible()
    # Tab leads from the last button of the header to one cell, the arrow keys on from there
    header(page, 'Average').get_by_role('button').focus()
    page.keyboard.press('Tab')
    assert hint.inner_text().startswith(f'{LOSSES[0]}, PSNR: +3.2 %, 95 % interval +2.2 % to +4.2 %')
    page.keyboard.press('ArrowRight')
    assert hint.inner_text().startswith(f'{LOSSES[0]}, LPIPS: +18.0 %')
    page.keyboard.press('ArrowDown')
    page.keyboard.press('ArrowDown')
    assert hint.inner_text().startswith('HyperIQA, LPIPS: −80.0 %')
    page.keyboard.press('ArrowDown')
    assert hint.is_visible(), 'the last row is the last'
    page.keyboard.press('End')
    assert hint.inner_text() == 'HyperIQA, Average: not available'
    assert cells.evaluate_all('(cells) => cells.filter((cell) => cell.tabIndex === 0).length') == 1
    page.keyboard.press('Escape')
    assert not hint.is_visible()
    # of every cell, not only of the one that has the focus: a screen reader goes through tables without it
    assert cells.nth(5).get_attribute('aria-description').startswith(f'{LOSSES[1]}, LPIPS: −111.0 %')
    cells.nth(5).hover()
    assert 'LPIPS: −111.0 %, 95 % interval −112.0 % to −110.0 %' in hint.inner_text()


def test_the_hint_stays_where_the_focus_scrolls_the_table(page):
    page.set_viewport_size({'width': 280, 'height': 800})
    page.locator(f'{SHOWN} td[data-hint]').first.focus()
    page.keyboard.press('End')
    wait_until(page, f'document.querySelector("{SHOWN} .scroll").scrollLeft > 0')
    page.wait_for_timeout(100)
    assert page.locator('#hint').is_visible()
    page.locator(f'{SHOWN} .scroll').evaluate('(scroll) => { document.activeElement.blur(); scroll.scrollLeft = 0 }')
    page.locator('#hint').wait_for(state='hidden')


def test_warnings_unfold_in_their_row(page):
    summary = page.locator(f'{SHOWN} summary').first
    summary.focus()
    page.keyboard.press('Enter')
    assert 'LPIPS is worse by 111 %' in page.locator(f'{SHOWN} .warnings details[open]').inner_text()


def test_the_slider_moves_by_keyboard_and_by_mouse(page):
    scene = page.locator('.scene').first
    slider, stage = scene.get_by_role('slider'), scene.locator('.stage')
    left = stage.locator('[data-picture=left]')
    width = stage.bounding_box()['width']

    def shown():
        return scene.locator('.edge').evaluate('(edge) => edge.offsetLeft + 1') / width

    assert shown() == pytest.approx(0.5, abs=0.01)
    slider.focus()
    for _ in range(10):
        page.keyboard.press('ArrowRight')
    assert slider.input_value() == '60'
    assert shown() == pytest.approx(0.6, abs=0.01)
    assert slider.get_attribute('aria-valuetext').startswith('60 % baseline, 40 % a|b')
    page.keyboard.press('Home')
    assert left.evaluate('(image) => getComputedStyle(image).clipPath') == 'inset(0px 100% 0px 0px)'
    stage.click(position={'x': width / 4, 'y': 20})
    assert slider.input_value() == '25'


def test_the_slider_shows_the_chosen_pictures(page):
    scene = page.locator('.scene').first
    sources = scene.locator('.crops img').evaluate_all('(images) => images.map((image) => image.src)')
    scene.get_by_label('Left', exact=True).select_option('bicubic')
    scene.get_by_label('Right', exact=True).select_option('GT')
    pictures = [scene.locator(f'[data-picture={side}]').get_attribute('src') for side in ('left', 'right')]
    assert pictures == [sources[0], sources[3]]
    assert scene.locator('.name').all_inner_texts() == ['bicubic', 'GT']
    page.get_by_label('Scene', exact=True).select_option(label='VRT, Vimeo 2/im4')
    assert page.locator('.scene h3:visible').all_inner_texts() == ['VRT, Vimeo 2/im4']


def test_a_crop_shows_its_window(page):
    """The upper left pixel of the crop is that of the window, and as many pixels are seen as it has."""
    frame, image = page.locator('.crop').nth(0).bounding_box(), page.locator('.crop img').nth(0).bounding_box()
    pixel = image['width'] / 80
    assert (frame['x'] - image['x']) / pixel == pytest.approx(40, abs=0.1)
    assert (frame['y'] - image['y']) / pixel == pytest.approx(20, abs=0.1)
    assert (frame['width'] / pixel, frame['height'] / pixel) == pytest.approx((20, 16), abs=0.2)


def plotted(page, chart):
    return page.evaluate('''(id) => document.getElementById(id).data.map(
      ({ name, type, x, y }) => ({ name, type, x, y }))''', chart)


def test_charts_are_drawn_from_what_is_chosen(page):
    gains, = plotted(page, 'loss-chart')
    assert gains['x'] == ['PSNR', 'LPIPS *', 'NIMA *', 'Average'] and gains['y'][:2] == [3.2, 18]
    page.get_by_label('Model', exact=True).select_option('iSeeBetter')
    page.locator('#choose-loss').select_option('HyperIQA')
    assert plotted(page, 'loss-chart')[0]['y'] == [-11, -79, None, None]
    assert 'iSeeBetter, average over 2 datasets' in page.locator('#loss-caption').inner_text()

    legend = page.locator('#curves-chart .legendtext')
    assert [' '.join(text.split()) for text in legend.all_text_contents()] == ['pix', ' '.join(HOSTILE.split())]
    page.get_by_label('Logarithmic').check()
    positive, negative = plotted(page, 'curves-chart')
    assert positive['name'] == 'pix'
    assert negative['name'].startswith('−') and min(negative['y']) > 0, 'a logarithm of negative losses'
    page.get_by_label('Show', exact=True).select_option('Weights of the losses')
    assert plotted(page, 'curves-chart')[0]['y'][2:5] == [1, None, 1]
    page.get_by_label('Show', exact=True).select_option('Gradient norms')
    page.get_by_label('Training', exact=True).select_option('1')
    assert plotted(page, 'curves-chart') == []
    assert 'did not log gradient norms' in page.locator('#curves-caption').inner_text()

    heat, peaks = plotted(page, 'spectrum-chart')
    assert heat['type'] == 'heatmap' and (peaks['x'], peaks['y']) == ([0.125, 0.25], [0.25, -0.5])
    assert heat['y'][0] == -0.5, 'the same frequency as 0.5'
    page.get_by_label('Run', exact=True).select_option('1')
    assert plotted(page, 'spectrum-chart')[1]['x'] == []


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_text_is_readable(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.evaluate('document.querySelectorAll("details").forEach((part) => { part.open = true })')
    count, failures = page.evaluate(CONTRAST)
    assert count > 300
    assert not failures


def test_colours_follow_the_system_and_the_choice(page):
    page.emulate_media(color_scheme='dark')
    background = 'getComputedStyle(document.body).backgroundColor'
    dark = page.evaluate(background)
    page.get_by_label('Colours').select_option('light')
    assert page.evaluate(background) == 'rgb(255, 255, 255)' != dark
    page.emulate_media(color_scheme='light')
    page.get_by_label('Colours').select_option('dark')
    assert page.evaluate(background) == dark
    page.get_by_label('Colours').select_option('')
    assert page.evaluate(background) == 'rgb(255, 255, 255)'
    page.emulate_media(media='print', color_scheme='dark')
    assert page.evaluate(background) == 'rgb(255, 255, 255)', 'paper is white'


def test_structure_is_that_of_a_document(page):
    assert page.evaluate(STRUCTURE) == []


def test_everything_is_reached_by_keyboard_and_the_focus_is_seen(page):
    # Tab goes on from where the focus was last
    page.evaluate('document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute("tabindex")')
    page.keyboard.press('Tab')
    assert page.evaluate('document.activeElement.textContent') == 'Skip to the results'
    page.keyboard.press('Enter')
    assert page.evaluate('document.activeElement.id') == 'main'
    reached = set()
    for _ in range(200):
        page.keyboard.press('Tab')
        name, outline = page.evaluate('''() => {
          const element = document.activeElement;
          return [element.id || element.tagName, getComputedStyle(element).outlineStyle];
        }''')
        if name == 'BODY':
            break
        reached.add(name)
        assert outline != 'none', name
    assert {'choose-model', 'choose-dataset', 'choose-decimals', 'BUTTON', 'TD', 'choose-loss', 'scene', 'split-0',
            'left-0', 'right-0', 'training', 'choose-curves', 'curves-log', 'artifacts', 'SUMMARY'} <= reached


@pytest.mark.parametrize('width', [390, 1000, 1600])
def test_the_page_fits_narrow_and_wide_windows(page, width):
    page.set_viewport_size({'width': width, 'height': 800})
    assert page.evaluate('document.documentElement.scrollWidth') <= width, 'only tables scroll sideways'


def test_paper_shows_everything_and_no_controls(page):
    page.emulate_media(media='print')
    page.evaluate('dispatchEvent(new Event("beforeprint"))')
    assert page.locator('.view').count() == page.locator('.view:visible').count() == 9
    assert page.locator('.crop:visible').count() == 8
    assert not page.locator('select:visible, input:visible, nav:visible').count()
    assert page.locator('pre').last.is_visible()
    page.evaluate('dispatchEvent(new Event("afterprint"))')
    page.emulate_media(media='screen')
    assert not page.locator('pre').last.is_visible()


def test_charts_fit_on_paper(page):
    page.set_viewport_size({'width': 1600, 'height': 800})
    width = 'Math.max(...[...document.querySelectorAll(".chart svg")].map((svg) => svg.getBoundingClientRect().width))'
    wait_until(page, f'{width} > 1300')
    page.evaluate('dispatchEvent(new Event("beforeprint"))')
    wait_until(page, f'{width} < 965')  # Letter in landscape with the page's margins
    page.evaluate('dispatchEvent(new Event("afterprint"))')
    wait_until(page, f'{width} > 1300')


def test_without_javascript_all_tables_and_pictures_are_there(browser, file, wrong):
    page = open_page(browser, file, wrong, java_script_enabled=False)
    assert page.locator('.view:visible').count() == 9
    assert page.locator('.crop:visible').count() == 8
    assert page.locator('td[title]').first.get_attribute('title').startswith('LPIPS & NIMA, PSNR: +3.2 %')
    assert not page.locator('select:visible, input:visible').count()
    assert page.locator('noscript p:visible').count() == 2
    page.close()
    assert not wrong
